"""Folders for edge.report, and the command in this process."""

import pytest

from edge.report import __main__ as command
from tests.edge import report_documents as made


@pytest.fixture
def reported(capfd):
    """Runs `python -m edge.report ... --quiet`: (exit code, stdout, stderr)."""

    def run(*arguments):
        capfd.readouterr()
        code = command.main([str(argument) for argument in (*arguments, "--quiet")])
        captured = capfd.readouterr()
        print(f"exit {code}", captured.out[-2000:], captured.err)
        return code, captured.out, captured.err

    return run


@pytest.fixture
def one(tmp_path):
    """A folder with an int8 file, and its manifest."""
    document = made.manifest("int8")
    made.save_artifact(tmp_path, document)
    return tmp_path, document
