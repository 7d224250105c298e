"""Arrays on disk: the recorded outputs of tfvit.compare (.npz), and an entry of the cache."""

from edge.artifacts.store import Store, _path
from fuzz.target import file, folder
from tfvit.compare import _read_reference


def read(data: bytes) -> None:
    store, key = Store(folder("recorded_arrays")), "ab"
    path = _path(folder("recorded_arrays"), key)
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(data)
    store.read(key)
    _read_reference(file("recorded_arrays/reference.npz", data))
