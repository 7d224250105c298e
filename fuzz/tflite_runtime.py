"""A `.tflite` file that is given to the runtime, as edge.inspect, edge.validate and edge.bundle do: in a process of its own first.

Two processes a file, so a few a second, and what is native leaves no trace in the coverage: start from what `tflite` learned.
"""

from edge.inspection import command
from edge.runtime import sandbox


def read(data: bytes) -> None:
    command.description(data)
    sandbox.require_runs(data)
