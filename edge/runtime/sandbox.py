"""Runs a file from outside in a process of its own first, since a damaged file can crash the process that runs it.

LiteRT checks only the outermost offsets of a flatbuffer, so a few changed bytes may cause a segmentation fault. The child does what the
commands do with a file anyway: load it, ask XNNPACK, run it once on noise. A graph that never ends is stopped after `LONGEST_S` seconds. A
graph that asks for more memory than the system has gets an error.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from typing import Any

from edge.runtime.child import Child, answering, module, noise
from tfvit import memory
from tfvit.errors import EnvironmentUnusableError, InputError, first_line

LONGEST_S = 600
"""Seconds for one file. One inference of our slowest file takes 48 s on two cores (v2_large384, w8a16 on reference kernels)."""

_PARTITIONS, _RUN = "partitions", "run"
_UNRUNNABLE = {
    "summary": "the runtime cannot run the file",
    "expected": "a graph of numbers in and numbers out",
    "action": "check the file with edge.inspect",
}
# SHA-256 of the files that were found to run
_tried: set[str] = set()


def partitions(file: bytes) -> Any:
    """`edge.runtime.cpu.xnnpack_partitions`, in a process of its own.

    Raises:
        EnvironmentUnusableError: the runtime refuses the file, or none is installed.
        InputError: the runtime crashed on the file, or did not end.
    """
    from edge.runtime.cpu import Partitions

    return Partitions(**_asked(file, _PARTITIONS))


def require_runs(file: bytes) -> None:
    """Checks in a process of its own that the runtime loads a file and survives one inference. A file is checked once.

    Raises:
        EnvironmentUnusableError: the runtime refuses the file, or none is installed.
        InputError: the runtime crashed on the file, or did not end.
    """
    from tfvit.hashing import sha256

    digest = sha256(file)
    if digest not in _tried:
        _asked(file, _RUN)
        _tried.add(digest)


def _asked(file: bytes, what: str) -> dict[str, Any]:
    with Child(module("edge.runtime.sandbox", what)) as child:
        try:
            answer, _ = child.process.communicate(file, timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            raise InputError(
                "the runtime does not come to an end with the file",
                expected=f"to load and run once within {LONGEST_S} s",
                received=f"no answer after {LONGEST_S} s",
                action="the graph loops for ever, or is far too large for this machine: check the file with edge.inspect",
            ) from None
        code, how = child.ended()
    if code != 0:
        raise InputError(
            "the runtime crashed on the file",
            expected="a file that the runtime loads and runs",
            received=f"its process ended with {how}",
            action="the file is damaged, or the runtime has a bug: convert or download it again",
        )
    found = json.loads(answer)
    if "refused" in found:
        raise EnvironmentUnusableError(**found["refused"])
    return found


def main(what: str) -> None:
    """The child's side: reads the file on stdin, answers with one line of JSON."""
    from edge.runtime.cpu import Interpreter, xnnpack_partitions

    if hasattr(signal, "alarm"):
        signal.alarm(LONGEST_S)  # ends this process even if the parent was killed
    say, file = answering(), sys.stdin.buffer.read()
    try:
        with memory.limited():
            if what == _PARTITIONS:
                say(dataclasses.asdict(xnnpack_partitions(file)))
            else:
                interpreter = Interpreter(file)
                interpreter.write(noise(interpreter.inputs))
                interpreter.invoke()
                say({})
    except EnvironmentUnusableError as error:
        say({"refused": {part: getattr(error, part) for part in ("summary", "expected", "received", "action")}})
    except Exception as error:  # inputs of unusual types, lists of different lengths
        say({"refused": {**_UNRUNNABLE, "received": first_line(error)}})
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
