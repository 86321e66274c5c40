"""Replays the segments drawn from each file."""

import math
import random
import re
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import torch

from audiocraft.data.audio_dataset import AudioDataset
from audiocraft.data.manifest import AudioMeta

from ..harness import adapter, assert_close


def write_track(folder, track):
    """Write the sine described by `signal`, as 16 bit PCM."""
    formula = r"([\d.]+)\*sin\(2\*pi\*([\d.]+)\*n/([\d.]+)\)"
    found = re.match(formula, track["signal"])
    assert found, track["signal"]
    level, frequency, rate = (float(number) for number in found.groups())
    n = np.arange(round(track["duration"] * track["sample_rate"]))
    wav = level * np.sin(2 * math.pi * frequency * n / rate)
    wav = np.repeat(wav[:, None], track["channels"], axis=1)
    samples = torch.from_numpy(wav * 2**15).floor().short().numpy()
    soundfile.write(folder / track["name"], samples, track["sample_rate"])
    return AudioMeta(
        str(folder / track["name"]), track["duration"], track["sample_rate"], None, track["weight"]
    )


def check_sample(sample, row):
    wav, info = sample
    assert Path(info.meta.path).name == row["track"]
    assert_close(info.seek_time, row["seek_time"])
    for field in ("n_frames", "total_frames", "channels"):
        assert getattr(info, field) == row[field], field
    assert wav.shape == (row["channels"], row["total_frames"])
    if wav.shape[-1] == info.n_frames:
        assert row["tail_zero"] == 0 or not wav[..., -row["tail_zero"] :].any()
    else:
        assert not wav[..., info.n_frames :].any()
    assert_close(wav[0, : len(row["head"])], row["head"], atol=2**-15 + 1e-6, rtol=0)


def check_dataset(metas, recorded):
    dataset = AudioDataset(metas, return_info=True, **recorded["kwargs"])
    assert len(dataset) == recorded["length"]
    assert_close(dataset.sampler.probabilities, recorded["sampling_probabilities"])
    for epoch, rows in recorded["epochs"].items():
        dataset.set_epoch(int(epoch))
        for row in rows:
            check_sample(dataset[row["index"]], row)


def check_unknown_epoch(metas, recorded):
    """Without an epoch the original drew one from `random`; the remaining draws are equal."""
    draws = random.Random(recorded["python_seed"])
    kwargs = {k: v for k, v in recorded.items() if k not in ("python_seed", "rows")}
    dataset = AudioDataset(metas, **kwargs)
    for index, row in enumerate(recorded["rows"]):
        epoch = draws.randint(0, 2**24)
        rng = dataset.sampler.generator(epoch, index)
        file, seek_time = dataset.sampler.draw(epoch, index, rng)
        assert Path(dataset.meta[file].path).name == row["track"]
        assert_close(seek_time, row["seek_time"])


@adapter("audio_dataset")
def check(case, call):
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        metas = [write_track(Path(folder), track) for track in case.meta["tracks"]]
        for recorded in case.meta["datasets"]:
            check_dataset(metas, recorded)
        check_unknown_epoch(metas, case.meta["no_epoch"])
