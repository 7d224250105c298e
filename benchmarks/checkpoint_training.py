"""Small five-class models fine-tuned with transformers and timm and left on disk as their users leave them.

Runs in the environment of `make checkpoints`; `checkpoint_formats.py` calls it.

    python benchmarks/checkpoint_training.py DATA_DIR OUT_DIR

DATA_DIR holds train/ and test/ with LABEL/NAME.png. OUT_DIR receives a folder or file a format, and answers.json: the class that each
model's own library, with its own preprocessing, gives every test picture.
"""

import argparse
import copy
import json
import sys
from pathlib import Path

import checkpoint_reference  # noqa: F401 (first: what torchvision needs beside a CPU build)
import numpy as np
import timm
import torch
import transformers
from PIL import Image
from timm.models._hub import save_for_hf
from timm.utils import ModelEmaV2
from timm.utils.checkpoint_saver import CheckpointSaver

SIDE, STEPS, BATCH = 64, 60, 20


def pictures(folder):
    """Class names, pictures, class numbers, paths."""
    labels = sorted(path.name for path in folder.iterdir())
    paths = [path for label in labels for path in sorted((folder / label).glob("*.png"))]
    return labels, [Image.open(path).convert("RGB") for path in paths], [labels.index(path.parent.name) for path in paths], paths


def trained(model, logits, pixels, targets, averaged=None):
    """A few steps of AdamW; the model in evaluation mode."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    generator = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(STEPS):
        which = torch.randint(len(targets), (BATCH,), generator=generator)
        loss = torch.nn.functional.cross_entropy(logits(model, pixels[which]), targets[which])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if averaged is not None:
            averaged.update(model)
    model.eval()
    return optimizer


def answers(model, logits, pixels):
    with torch.no_grad():
        return torch.cat([logits(model, part) for part in pixels.split(BATCH)]).argmax(1).tolist()


def of_transformers(data, out):
    labels, images, targets, _ = pictures(data / "train")
    config = transformers.SwinConfig(
        image_size=SIDE, patch_size=4, embed_dim=32, depths=[2, 2], num_heads=[2, 4], window_size=4, drop_path_rate=0.0,
        id2label=dict(enumerate(labels)), label2id={label: index for index, label in enumerate(labels)},
    )  # fmt: skip
    model = transformers.SwinForImageClassification(config)
    processor = transformers.ViTImageProcessor(size={"height": SIDE, "width": SIDE}, resample=2, image_mean=[0.5] * 3, image_std=[0.5] * 3)

    def prepared(images):
        return processor(images, return_tensors="pt")["pixel_values"]

    def logits(model, pixels):
        return model(pixels).logits

    optimizer = trained(model, logits, prepared(images), torch.tensor(targets))
    model.save_pretrained(out / "transformers_folder")
    processor.save_pretrained(out / "transformers_folder")
    for name in ("config.json", "preprocessor_config.json"):
        (out / "transformers_bin").mkdir(exist_ok=True)
        (out / "transformers_bin" / name).write_bytes((out / "transformers_folder" / name).read_bytes())
    torch.save(model.state_dict(), out / "transformers_bin" / "pytorch_model.bin")
    torch.save(optimizer.state_dict(), out / "transformers_bin" / "optimizer.pt")
    given = answers(model, logits, prepared(pictures(data / "test")[1]))
    return {name: given for name in ("transformers_folder", "transformers_bin")}


def of_timm(data, out):
    labels, images, targets, _ = pictures(data / "train")
    arguments = {"img_size": SIDE, "embed_dim": 32, "depths": (2, 2), "num_heads": (2, 4), "window_size": 4, "drop_path_rate": 0.0}
    model = timm.create_model("swin_tiny_patch4_window7_224", pretrained=False, num_classes=len(labels), **arguments)
    half = (0.5, 0.5, 0.5)
    cfg = {"input_size": (3, SIDE, SIDE), "mean": half, "std": half, "interpolation": "bilinear", "crop_pct": 0.9, "label_names": labels}
    model.pretrained_cfg = model.default_cfg = {**model.pretrained_cfg, **cfg}
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)

    def prepared(images):
        return torch.stack([transform(image) for image in images])

    def logits(model, pixels):
        return model(pixels)

    averaged = ModelEmaV2(model, decay=0.8)
    optimizer = trained(model, logits, prepared(images), torch.tensor(targets), averaged)
    save_for_hf(model, out / "timm_folder", model_config={"label_names": labels}, model_args=arguments)
    script = argparse.Namespace(
        model="swin_tiny_patch4_window7_224", img_size=SIDE, input_size=None, mean=half, std=half, interpolation="bilinear", crop_pct=0.9,
        model_kwargs=arguments, num_classes=len(labels),
    )  # fmt: skip
    (out / "timm_train").mkdir()
    saver = CheckpointSaver(
        model, optimizer, args=script, model_ema=averaged, checkpoint_dir=out / "timm_train", recovery_dir=out / "timm_train"
    )
    saver.save_checkpoint(0, 1.0)
    torch.save({"epoch": 3, "model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict()}, out / "by_hand.pt")
    torch.save({f"module.{name}": tensor for name, tensor in model.state_dict().items()}, out / "parallel.pth")
    torch.save({f"_orig_mod.{name}": tensor for name, tensor in model.state_dict().items()}, out / "compiled.pth")
    torch.save(copy.deepcopy(model), out / "whole_model.pth")
    test = prepared(pictures(data / "test")[1])
    plain, average = answers(model, logits, test), answers(averaged.module, logits, test)
    return {name: plain for name in ("timm_folder", "by_hand.pt", "parallel.pth", "compiled.pth", "whole_model.pth")} | {
        "timm_train/model_best.pth.tar": average
    }


def main():
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    torch.manual_seed(0)
    found = of_transformers(data, out) | of_timm(data, out)
    labels, _, targets, paths = pictures(data / "test")
    right = {name: float(np.mean(np.array(given) == targets)) for name, given in found.items()}
    document = {
        "labels": labels,
        "answers": found,
        "top1": right,
        "paths": [path.relative_to(data / "test").as_posix() for path in paths],
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}, timm {timm.__version__}",
    }
    (out / "answers.json").write_text(json.dumps(document))


if __name__ == "__main__":
    main()
