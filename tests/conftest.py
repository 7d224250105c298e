"""No test goes to the network or touches the user's cache: the hub is offline, its cache an empty folder. Set before anything reads it."""

import atexit
import os
import shutil
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="hub-cache-")
atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: each with threads for all of them would only wait
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"
else:  # one cache for all processes: a float file that one test exported, no other exports
    os.environ["TFVIT_CACHE"] = tempfile.mkdtemp(prefix="tfvit-cache-")
    atexit.register(shutil.rmtree, os.environ["TFVIT_CACHE"], ignore_errors=True)

import pytest  # noqa: E402


def pytest_itemcollected(item: pytest.Item) -> None:
    """For runs on several processes: a file stays together, and so do the tests of all files that share the converted tiny models.

    Not in pytest_collection_modifyitems: there xdist has read the marks already.
    """
    if isinstance(item, pytest.Function):
        item.add_marker(pytest.mark.xdist_group("tiny" if {"tiny", "tiny_v1"} & set(item.fixturenames) else item.path.name))
