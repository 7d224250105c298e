"""A folder of transformers, timm or KerasHub: `{"config": …, "processor": …}`, whose parts lie beside small weights as JSON files."""

import functools
import json

import numpy as np

from fuzz.json_mutator import mutate as mutate
from fuzz.target import file, folder
from tfvit.checkpoints import read_checkpoint
from tfvit.errors import InputError

# As much of a model as its sizes are found by
_TENSORS = {
    "embeddings.patch_embeddings.projection.weight": (8, 3, 4, 4),
    "encoder.layers.0.blocks.0.attention.self.relative_position_bias_table": (49, 2),
    "encoder.layers.0.blocks.0.intermediate.dense.weight": (16, 8),
    "classifier.weight": (3, 8),
    "classifier.bias": (3,),
}


def read(data: bytes) -> None:
    try:
        parts = json.loads(data)
        config, processor = parts["config"], parts["processor"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError("not two documents", expected="config, processor", received=type(error).__name__, action="none") from error
    _weights()
    file("checkpoint_folder/config.json", json.dumps(config).encode())
    file("checkpoint_folder/preprocessor_config.json", json.dumps(processor).encode())
    file("checkpoint_folder/image_converter.json", json.dumps(processor).encode())
    read_checkpoint(folder("checkpoint_folder"))


@functools.cache
def _weights() -> None:
    from safetensors.numpy import save

    file("checkpoint_folder/model.safetensors", save({name: np.zeros(shape, np.float32) for name, shape in _TENSORS.items()}))
