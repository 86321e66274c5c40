import math

import pytest
import torch

from audiocraft.data.conditions import WavCondition
from audiocraft.modules.conditioners import ChromaStemConditioner


def melody(frequency, length=8000, sample_rate=8000):
    wav = torch.sin(2 * math.pi * frequency * torch.arange(8000) / 8000)[None, None]
    return WavCondition(wav * (torch.arange(8000) < length), torch.tensor([length]), [sample_rate])


@pytest.fixture(scope="module")
def chroma():
    torch.manual_seed(0)
    return ChromaStemConditioner(4, sample_rate=8000, radix2_exp=11)


def test_octaves_have_equal_chroma_and_other_notes_do_not(chroma):
    low, high, other = (chroma(chroma.prepare(melody(f))).embed for f in (440, 880, 550))
    torch.testing.assert_close(low[:, 4:-4], high[:, 4:-4])
    assert not torch.allclose(low[:, 4:-4], other[:, 4:-4])


def test_state_dict_matches_released_checkpoints():
    style = ChromaStemConditioner(1536, sample_rate=32000, n_chroma=12, radix2_exp=14, argmax=True)
    shapes = {key: list(value.shape) for key, value in style.state_dict().items()}
    assert shapes == {
        "output_proj.weight": [1536, 12],
        "output_proj.bias": [1536],
        "chroma.spec.window": [16384],
    }


def test_padding_is_zero(chroma):
    condition = chroma(chroma.prepare(melody(440, length=2048)))
    assert condition.mask.sum() == 4
    assert not condition.embed[:, 4:].any()


def test_null_melody_is_one_zero_step(chroma):
    null = WavCondition(torch.zeros(2, 1, 1), torch.tensor([0, 0]), [8000, 8000])
    condition = chroma(chroma.prepare(null))
    assert condition.embed.shape == (2, 1, 4)
    assert not condition.embed.any()


def test_melodies_at_another_rate_raise(chroma):
    with pytest.raises(ValueError, match="44100"):
        chroma.prepare(melody(440, sample_rate=44100))
