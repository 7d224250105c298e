"""Checkpoints as other libraries leave them, made of small models of ours by renaming backwards."""

import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import ClassVar

import numpy as np
from safetensors.numpy import save_file

SIZE, CLASSES = 64, 5
PIXELS = np.random.default_rng(0).standard_normal((1, SIZE, SIZE, 3)).astype("float32")
ARGUMENTS = {"embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4), "window_size": 4, "input_shape": (SIZE, SIZE, 3)}


def build(version=1, seed=0, **arguments):
    """A small model with every weight drawn, giving logits."""
    from tfvit.model import ViTTransformer
    from tfvit.weights import randomize

    model = ViTTransformer(**{**ARGUMENTS, "classes": CLASSES, "classifier_activation": None, "version": version, **arguments})
    randomize(model, seed)
    return model


def huggingface_names(tensors, base=None):
    """timm's tensors as transformers calls them."""
    cosine = any(name.endswith("logit_scale") for name in tensors)
    base = ("swinv2." if cosine else "swin.") if base is None else base
    named = {}
    for name, tensor in tensors.items():
        if name.startswith("head.fc."):
            named[name.replace("head.fc.", "classifier.")] = tensor
            continue
        name = name.replace("patch_embed.proj.", "embeddings.patch_embeddings.projection.").replace("patch_embed.norm.", "embeddings.norm.")
        name = re.sub(r"^norm\.", "layernorm.", name)
        name = re.sub(r"^layers\.(\d+)\.downsample", lambda match: f"layers.{int(match[1]) - 1}.downsample", name)
        name = (
            re.sub(r"^layers\.", "encoder.layers.", name).replace(".norm1.", ".layernorm_before.").replace(".norm2.", ".layernorm_after.")
        )
        name = name.replace(".attn.proj.", ".attention.output.dense.").replace(".attn.cpb_mlp.", ".attn.continuous_position_bias_mlp.")
        name = name.replace(".mlp.fc1.", ".intermediate.dense.").replace(".mlp.fc2.", ".output.dense.")
        name = base + name.replace(".attn.", ".attention.self.")
        if "qkv" in name:
            for part, third in zip(("query", "key", "value"), np.split(tensor, 3), strict=True):
                named[name.replace("qkv", part)] = third
        else:
            named[re.sub(r"\.(q|v)_bias$", lambda match: ".query.bias" if match[1] == "q" else ".value.bias", name)] = tensor
    return named


def huggingface_config(version=1, **changes):
    kind = "swin" if version == 1 else "swinv2"
    head = {"architectures": [f"{kind.capitalize()}ForImageClassification"], "model_type": kind}
    sizes = {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4, "image_size": SIZE, "patch_size": 4}
    more = {"pretrained_window_sizes": [0, 0]} if version == 2 else {}
    return {**head, **sizes, **more, "id2label": {str(index): f"thing {index}" for index in range(CLASSES)}, **changes}


PROCESSOR = {
    "do_resize": True, "size": {"height": SIZE, "width": SIZE}, "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255,
    "do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "image_processor_type": "ViTImageProcessor",
}  # fmt: skip


def folder(path: Path, config, tensors=None, processor=None) -> Path:
    """A folder with a configuration, weights and a processor."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    if tensors is not None:
        save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, path / "model.safetensors")
    if processor is not None:
        (path / "preprocessor_config.json").write_text(json.dumps(processor))
    return path


def stand_in(name, base=object):
    """A class that pickles under a name of another library."""
    module, _, short = name.rpartition(".")
    return type(short, (base,), {"__module__": module, "__qualname__": short})


class _Pickler(pickle._Pickler):
    """Writes what `torch.save` writes: arrays as tensors on storages, stand-ins by name without looking whether they can be imported."""

    def __init__(self, file, storages):
        super().__init__(file, 2)
        self.storages = storages

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, np.ndarray):
            return self._tensor(obj)
        return super().save(obj, save_persistent_id)

    def save_global(self, obj, name=None):
        if isinstance(obj, type) and getattr(obj, "__module__", "").split(".")[0] not in ("builtins", "collections", "copyreg"):
            self.write(b"c" + f"{obj.__module__}\n{obj.__qualname__}\n".encode())
            self.memoize(obj)
        else:
            super().save_global(obj, name)

    dispatch: ClassVar = {**pickle._Pickler.dispatch, type: save_global}

    def _tensor(self, array):
        key = str(len(self.storages))
        self.storages[key] = np.ascontiguousarray(array)
        kind = {"float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage"}[str(array.dtype)]
        self.write(b"ctorch._utils\n_rebuild_tensor_v2\n(")
        self.write(b"(")
        super().save("storage")
        self.write(b"ctorch\n" + kind.encode() + b"\n")
        for part in (key, "cpu", array.size):
            super().save(part)
        self.write(b"tQ")
        strides = tuple(stride // array.itemsize for stride in self.storages[key].strides)
        for part in (0, tuple(array.shape), strides, False, {}):
            super().save(part)
        self.write(b"tR")


def torch_save(content, path: Path) -> Path:
    """`torch.save` without PyTorch."""
    import io

    storages, program = {}, io.BytesIO()
    _Pickler(program, storages).dump(content)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program.getvalue())
        archive.writestr("archive/byteorder", "little")
        for key, array in storages.items():
            archive.writestr(f"archive/data/{key}", array.tobytes())
    return path
