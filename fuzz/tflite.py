"""A `.tflite` file, read and judged by rule: all of edge.inspect but the runtime, which `tflite_runtime` asks in processes of its own."""

from edge.inspection import command


def read(data: bytes) -> None:
    command.description(data, ask_runtime=False)
