import torch

from audiocraft.data.conditions import (
    ConditioningAttributes,
    collate_texts,
    collate_wavs,
    drop_conditions,
    null_wav,
    wav_condition,
)


def sample(seconds: float = 1.0) -> ConditioningAttributes:
    wav = torch.randn(2, int(seconds * 100))
    return ConditioningAttributes(
        text={"description": "calm", "genre": "jazz"},
        wav={"self_wav": wav_condition(wav, 100, path="a.wav", seek_time=2.0, start=0.5)},
    )


def test_without_replaces_named_conditions_in_a_copy():
    original = sample()
    copy = drop_conditions(original, text=["genre", "unknown"], wav=["self_wav"])
    assert copy.text == {"description": "calm", "genre": None}
    assert copy.wav["self_wav"].length.tolist() == [0]
    assert original.text["genre"] == "jazz"
    assert original.wav["self_wav"].length.tolist() == [100]


def test_a_null_clip_has_no_length():
    clip = null_wav(16000)
    assert (clip.wav.shape, clip.length.tolist()) == ((1, 1, 1), [0])


def test_missing_texts_are_null():
    assert collate_texts([sample(), ConditioningAttributes()], "genre") == ["jazz", None]


def test_clips_are_downmixed_and_padded_to_the_longest():
    samples = [sample(1.0), ConditioningAttributes(), sample(0.5)]
    batch = collate_wavs(samples, "self_wav")
    assert batch.wav.shape == (3, 1, 100)
    assert batch.length.tolist() == [100, 0, 50]
    torch.testing.assert_close(batch.wav[2, 0, :50], samples[2].wav["self_wav"].wav[0].mean(dim=0))
    assert not batch.wav[1].any()
    assert not batch.wav[2, 0, 50:].any()
    assert batch.path == ["a.wav", None, "a.wav"]
    assert batch.start == [0.5, None, 0.5]
    assert batch.sample_rate == [100, 100, 100]
