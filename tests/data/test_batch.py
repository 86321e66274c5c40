"""Batches: splitting into micro-batches and the conditions of each segment."""

import pytest
import torch

from audiocraft.data.batch import Batch, stack, stack_clips
from audiocraft.data.conditions import wav_condition
from audiocraft.data.music_info import MusicInfo


def make_batch(size=6):
    wavs = torch.arange(float(size)).view(size, 1, 1).expand(size, 1, 4).contiguous()
    infos = [MusicInfo(description=str(i), n_frames=i + 1, sample_rate=8) for i in range(size)]
    clips = [wav_condition(wav, 8, length=i + 1) for i, wav in enumerate(wavs)]
    return Batch(wavs=wavs, infos=infos, style_clips=stack_clips(clips, wavs))


def test_micro_batches_have_equal_size_and_keep_their_metadata():
    batch = make_batch()
    parts = batch.split(3)
    assert [len(part) for part in parts] == [2, 2, 2]
    assert torch.equal(torch.cat([part.wavs for part in parts]), batch.wavs)
    assert [n for part in parts for n in part.num_samples] == batch.num_samples
    assert [part.style_clips.length.tolist() for part in parts] == [[1, 2], [3, 4], [5, 6]]


def test_each_segment_has_its_own_conditions():
    batch = make_batch(2)
    for i, attributes in enumerate(batch.condition_attributes()):
        assert attributes.text["description"] == str(i)
        assert torch.equal(attributes.wav["self_wav"].wav, batch.wavs[i : i + 1])
        assert attributes.wav["self_wav"].length.tolist() == [i + 1]


def test_a_batch_holds_either_waveforms_or_codes():
    with pytest.raises(ValueError, match="wavs"):
        Batch(infos=[])
    with pytest.raises(ValueError, match="codes"):
        Batch(wavs=torch.zeros(1, 1, 1), codes=torch.zeros(1, 1, 1), infos=[])


def test_waveforms_are_padded_with_zeros_to_the_longest():
    wavs = stack([torch.ones(1, 2), torch.ones(1, 3)])
    assert wavs.tolist() == [[[1, 1, 0]], [[1, 1, 1]]]
