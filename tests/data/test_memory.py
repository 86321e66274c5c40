"""Memory of data workers: independent of the manifest size and of the epoch."""

import multiprocessing
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from audiocraft.data.manifest import AudioMeta
from audiocraft.data.music_dataset import MusicDataset
from audiocraft.data.tokens.dataset import TokenDataset

from .conftest import RATE
from .token_folders import write_tokens

pytestmark = pytest.mark.slow
MEGABYTE = 2**20
OPTIONS = {"segment_duration": 1.0, "sample_rate": RATE, "channels": 1}


def own_bytes(pid="self") -> int:
    """Memory of a process that is not shared with others, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    raise AssertionError(f"no RssAnon of {pid}")


def read_everything(dataset, results) -> None:
    """Read all metadata and draw segments, as a data worker does."""
    before = own_bytes()
    for file in range(0, len(dataset.meta), 3):
        assert dataset.meta[file].path.endswith(".mp3")
    for index in range(500):
        dataset.sampler.draw(1, index, dataset.sampler.generator(1, index))
    results.put(own_bytes() - before)
    results.put(own_bytes())


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_does_not_hold_the_manifest(method):
    """As objects 200,000 files would take 80 MB; as an array of doubles 2 MB each."""
    context = multiprocessing.get_context(method)
    held = {}
    for count in (100, 200_000):
        metas = [
            AudioMeta(f"/music/of/{i % 997}/an artist/and/album/{i}.mp3", 60.0 + i % 7, 44100)
            for i in range(count)
        ]
        dataset = MusicDataset(metas, **OPTIONS)
        del metas
        results = context.Queue()
        process = context.Process(target=read_everything, args=(dataset, results))
        process.start()
        held[count] = results.get(), results.get()
        process.join()
    assert held[200_000][0] < held[100][0] + 4 * MEGABYTE
    if method == "spawn":  # a forked process also inherits what its parent has not freed
        assert held[200_000][1] < held[100][1] + 10 * MEGABYTE


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize("kind", ["audio", "tokens"])
def test_epochs_do_not_leak_memory(kind, tracks, tmp_path):
    dataset = MusicDataset(tracks, num_samples=200, **OPTIONS)
    if kind == "tokens":
        write_tokens(tmp_path / "tokens", tracks)
        dataset = TokenDataset(tmp_path / "tokens", num_samples=200, **OPTIONS)
    loader = DataLoader(
        dataset, 10, num_workers=1, collate_fn=dataset.collater, persistent_workers=True
    )

    def epochs(numbers):
        for number in numbers:
            dataset.set_epoch(number)
            for _ in loader:
                pass
        (worker,) = (child.pid for child in multiprocessing.active_children())
        return own_bytes(), own_bytes(worker)

    after_some, after_many = epochs(range(1, 6)), epochs(range(6, 36))
    for some, many in zip(after_some, after_many):
        assert many < some + 3 * MEGABYTE
