"""When MediaPipe's answers count as ours, and what `make mediapipe` says of a schema that has moved on."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import mediapipe_tasks
from edge.tflite import metadata
from tfvit.errors import EXIT_UNUSABLE

SCRIPT = Path(mediapipe_tasks.__file__)
SCORES = np.array([[0.5, 0.2, 0.1, 0.08, 0.07, 0.05], [0.3, 0.3001, 0.2, 0.1, 0.06, 0.0399]])


@pytest.mark.parametrize(
    ("change", "labelled", "status", "top5", "reason"),
    [
        (0.0, True, "same", "2", ""),
        (5e-4, True, "same", "2", ""),
        (np.array([0.0002, 0, 0, 0, 0, 0]), True, "same", "1", ""),  # the two best of the second change places
        (0.01, True, "differs", "2", "other scores"),
        (np.array([0, 0, 0, 0, np.nan, 0]), True, "differs", "0", "other scores"),
        (0.0, False, "differs", "2", "other labels"),
    ],
)
def test_scores_compared(change, labelled, status, top5, reason):
    columns = mediapipe_tasks.compared(SCORES, SCORES + change, 1e-3, labelled)
    assert (columns["status"], columns["same_top5"], columns["reason"]) == (status, top5, reason)


def test_a_schema_that_has_moved_on():
    """Ours, written as the published schema is, is found equal; each change of it is named."""
    lines = ['file_identifier "M001";']
    lines += [
        f"enum {name} : byte {{ {', '.join(f'{v} = {i}' for i, v in enumerate(values))} }}" for name, values in metadata.ENUMS.items()
    ]
    lines += [f"union {name} {{ {', '.join(members)} }}" for name, members in metadata.UNIONS.items()]
    for name, fields in metadata.TABLES.items():
        lines.append(
            f"table {name} {{ // with:a comment\n {''.join(f'{field}:{kind} (force_align: 16);' for field, kind in fields.items())} }}"
        )
    text = "\n".join(lines)
    assert mediapipe_tasks.schema_differences(text) == []
    for old, new, word in (
        ("license:string (force_align: 16);", "", "ModelMetadata"),
        ("name:string", "title:string", "AssociatedFile"),
        ("VOCABULARY = 5", "VOCABULARY = 7", "AssociatedFileType"),
        ("AudioProperties }", "AudioProperties, VideoProperties }", "ContentProperties"),
        ("M001", "M002", "M002"),
    ):
        assert text != text.replace(old, new)
        assert any(word in found for found in mediapipe_tasks.schema_differences(text.replace(old, new))), word


def test_without_photographs_it_says_so(tmp_path):
    command = [sys.executable, str(SCRIPT), "--mediapipe-python", "none", "--photos", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_UNUSABLE
    assert "not tested: 20 photographs are needed, 0 are in" in done.stdout
