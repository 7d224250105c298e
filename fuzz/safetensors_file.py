"""A `.safetensors` checkpoint, up to the names and shapes of a model's own tensors."""

from fuzz.target import file
from tfvit.weights import checkpoint_classes, read_safetensors


def read(data: bytes) -> None:
    path = file("safetensors_file/checkpoint.safetensors", data)
    read_safetensors(path)
    checkpoint_classes(path)
