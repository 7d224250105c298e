"""A file from outside on the runtime, first in a process of its own: native code that a damaged file brings down takes it along.

Flatbuffers are read by offset, and LiteRT checks only the outermost of them: a file with a few changed bytes may end a process with a
segmentation fault. What is asked here is what the commands do with a file anyway: load it, ask XNNPACK, run it once on noise. A graph that
does not come to an end is stopped after `LONGEST_S`, one that asks for more memory than the system has gets none.
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
"""Wall time of one trial. One inference of our slowest file takes 48 s on two cores (v2_large384, w8a16 on reference kernels)."""

_PARTITIONS, _RUN = "partitions", "run"
_UNRUNNABLE = {
    "summary": "the runtime cannot run the file",
    "expected": "a graph of numbers in and numbers out",
    "action": "check the file with edge.inspect",
}
# SHA-256 of what this process has tried
_tried: set[str] = set()


def partitions(file: bytes) -> Any:
    """`edge.runtime.cpu.xnnpack_partitions`, asked in a process of its own.

    Raises:
        EnvironmentUnusableError: the runtime refuses the file, or there is none.
        InputError: the runtime crashed on it or did not come to an end.
    """
    from edge.runtime.cpu import Partitions

    return Partitions(**_asked(file, _PARTITIONS))


def require_runs(file: bytes) -> None:
    """Checks that the runtime loads a file and survives one inference, before this process does the same.

    Raises:
        EnvironmentUnusableError: the runtime refuses the file, or there is none.
        InputError: the runtime crashed on it or did not come to an end.
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
    """The child's side: the file on stdin, one line of JSON on stdout."""
    from edge.runtime.cpu import Interpreter, xnnpack_partitions

    if hasattr(signal, "alarm"):
        signal.alarm(LONGEST_S)  # where the parent was killed meanwhile
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
    except Exception as error:  # inputs of kinds that no noise is made for, lists that do not fit each other
        say({"refused": {**_UNRUNNABLE, "received": first_line(error)}})
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
