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
from pathlib import Path
from typing import Any

from tfvit import memory
from tfvit.errors import EnvironmentUnusableError, InputError

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
    # the child finds this very edge, wherever its parent found it
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    command, pipe = [sys.executable, "-m", "edge.runtime.sandbox", what], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env={**os.environ, "PYTHONPATH": path}) as child:
        try:
            out, said = child.communicate(file, timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            child.kill()
            raise InputError(
                "the runtime does not come to an end with the file",
                expected=f"to load and run once within {LONGEST_S} s",
                received=f"no answer after {LONGEST_S} s",
                action="the graph loops for ever, or is far too large for this machine: check the file with edge.inspect",
            ) from None
    if child.returncode == 0:
        answer = json.loads(out)
        if "refused" in answer:
            raise EnvironmentUnusableError(**answer["refused"])
        return answer
    last = (said.decode(errors="replace").strip().splitlines() or ["it printed nothing"])[-1]
    how = f"signal {signal.Signals(-child.returncode).name}" if child.returncode < 0 else f"exit code {child.returncode}"
    raise InputError(
        "the runtime crashed on the file",
        expected="a file that the runtime loads and runs",
        received=f"its process ended with {how}: {last[:300]}",
        action="the file is damaged, or the runtime has a bug: convert or download it again",
    )


def main(what: str) -> None:
    """The child's side: the file on stdin, one line of JSON on stdout."""
    from edge.runtime.child import answering, noise
    from edge.runtime.cpu import Interpreter, xnnpack_partitions

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
        received = (str(error).splitlines() or [type(error).__name__])[0]
        say({"refused": {**_UNRUNNABLE, "received": received}})
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
