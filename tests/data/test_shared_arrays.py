import multiprocessing
import pickle

import numpy as np
import pytest

from audiocraft.data.shared_arrays import SharedArrays, save_arrays
from audiocraft.errors import ManifestError

ARRAYS = {
    "bytes": np.frombuffer(b"some text", np.uint8),
    "numbers": np.linspace(0, 1, 7),
    "table": np.arange(12, dtype=np.int32).reshape(3, 4),
    "nothing": np.zeros(0, np.int64),
}


def assert_same(shared, expected=ARRAYS):
    assert set(shared) == set(expected)
    for name, array in expected.items():
        assert shared[name].dtype == array.dtype
        np.testing.assert_array_equal(shared[name], array)


def test_arrays_round_trip_through_memory_pickle_and_disk(tmp_path):
    shared = SharedArrays(ARRAYS)
    assert_same(shared)
    assert_same(pickle.loads(pickle.dumps(shared)))
    save_arrays(tmp_path / "arrays.safetensors", shared)
    loaded = SharedArrays.load(tmp_path / "arrays.safetensors")
    assert_same(loaded)
    assert_same(pickle.loads(pickle.dumps(loaded)))
    assert [path.name for path in tmp_path.iterdir()] == ["arrays.safetensors"]


def double(shared):
    shared["numbers"][...] *= 2


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.integration
def test_processes_share_the_same_memory(method):
    shared = SharedArrays(ARRAYS)
    process = multiprocessing.get_context(method).Process(target=double, args=(shared,))
    process.start()
    process.join()
    assert process.exitcode == 0
    np.testing.assert_array_equal(shared["numbers"], 2 * ARRAYS["numbers"])


def test_the_disk_is_used_without_shared_memory(monkeypatch):
    monkeypatch.delattr("os.memfd_create")
    assert_same(SharedArrays(ARRAYS))


@pytest.mark.parametrize("content", [None, b"", b"nothing of the kind" * 9])
def test_the_error_names_a_file_of_another_format(tmp_path, content):
    path = tmp_path / "arrays.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ManifestError, match=r"arrays\.safetensors cannot be read"):
        SharedArrays.load(path)
