"""What a peer's maker leaves beside its files: a row for each precision, made or not, with the reason."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path


def make(folder: Path, peer: str, version: str, makers: Mapping[str, tuple[str, str, Callable[[Path], None]]]) -> None:
    """Runs every maker; one that fails is a row too.

    Args:
        folder: of the files, and of `made/PEER.json`.
        peer, version: who made them.
        makers: precision -> (runtime of `time_peer`, file name, what writes it).
    """
    rows = []
    for precision, (runtime, name, write) in makers.items():
        row = {"peer": peer, "version": version, "precision": precision, "runtime": runtime, "file": name, "reason": None}
        try:
            if not (folder / name).exists():
                write(folder / name)
        except Exception as error:
            traceback.print_exc()
            (folder / name).unlink(missing_ok=True)
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            row |= {"file": None, "reason": f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]}
        print(f"{peer} {precision}: {row['reason'] or 'made'}", flush=True)
        rows.append(row)
    (folder / "made").mkdir(exist_ok=True)
    (folder / "made" / f"{peer}.json").write_text(json.dumps(rows, indent=1))
