"""Nothing depends on what time it is: a clock that is wrong, or jumps, changes no result and keeps nothing waiting."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
WALL_CLOCK = {("time", name) for name in ("time", "time_ns", "localtime", "gmtime", "ctime", "strftime", "asctime")}
# What was kept and not used for longest goes first, by the files' times: a clock that jumps has others computed again. Its list shows them.
ALLOWED = {("edge/artifacts/store.py", "st_mtime"), ("edge/cache.py", "time.localtime"), ("edge/cache.py", "time.strftime")}
# A certificate says from when to when it holds
ALLOWED |= {("edge/web/certificate.py", "datetime")}
# timedelta writes a duration
ALLOWED |= {("tfvit/terminal.py", "datetime")}


def test_nothing_reads_the_wall_clock():
    found = set()
    for package in ("tfvit", "calibration", "edge"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = {node.module} if isinstance(node, ast.ImportFrom) else set()
                names |= {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
                if isinstance(node, ast.Attribute):
                    if isinstance(node.value, ast.Name) and (node.value.id, node.attr) in WALL_CLOCK:
                        names.add(f"{node.value.id}.{node.attr}")
                    if node.attr in ("st_mtime", "st_mtime_ns", "st_ctime", "st_atime"):
                        names.add(node.attr)
                found |= {(path.relative_to(ROOT).as_posix(), name) for name in names & {"datetime", "st_mtime", "st_ctime", "st_atime"}}
                found |= {(path.relative_to(ROOT).as_posix(), name) for name in names if name and name.startswith("time.")}
    print(sorted(found))
    assert found == ALLOWED
