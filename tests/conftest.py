"""No test goes to the network or touches the user's cache: the hub is offline, its cache an empty folder. Set before anything reads it."""

import os
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="hub-cache-")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
