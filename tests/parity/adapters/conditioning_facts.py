"""Replays `conditioning_facts`: dropouts with recorded draws, null conditions, collation."""

import torch

from audiocraft.data.conditions import (
    ConditioningAttributes,
    collate_texts,
    collate_wavs,
    wav_condition,
)
from audiocraft.modules.conditioners import (
    AttributeDropout,
    ClassifierFreeGuidanceDropout,
    ConditionProvider,
    LUTConditioner,
    WavConditioner,
)

from ..harness import adapter


@adapter("conditioning_facts")
def check(case, call):
    check_attribute_dropout(case.meta["attribute_dropout"])
    check_guidance_dropout(case.meta["cfg_dropout"])
    check_null_wav(case.meta["nullify_wav"])
    check_collation(case.meta["collate"])


def batch(size=2, texts=("description",), wavs=("self_wav",)):
    clip = wav_condition(torch.ones(2, 8), 32000, path="p")
    return [
        ConditioningAttributes(text=dict.fromkeys(texts, "x"), wav=dict.fromkeys(wavs, clip))
        for _ in range(size)
    ]


def is_dropped(sample):
    """Return whether each text, then each clip, is dropped."""
    texts = [text is None for text in sample.text.values()]
    return [*texts, *(int(clip.length) == 0 for clip in sample.wav.values())]


def check_attribute_dropout(facts):
    dropout = AttributeDropout(facts["p"])
    rng = torch.Generator().manual_seed(facts["seed"])
    (rows,) = [rows for key, rows in facts.items() if key.startswith("dropped_")]
    for expected in rows:
        full = batch(facts["batch"], facts["p"]["text"], facts["p"]["wav"])
        dropped = dropout(full, rng, training=True)
        assert [is_dropped(sample) for sample in dropped] == expected


def check_guidance_dropout(facts):
    dropout = ClassifierFreeGuidanceDropout(facts["p"])
    rng = torch.Generator().manual_seed(facts["seed"])
    for expected in facts["dropped"]:
        for sample in dropout(batch(), rng, training=True):
            assert is_dropped(sample) == [expected] * 2


def check_null_wav(facts):
    nothing = ClassifierFreeGuidanceDropout(1.0).apply(batch())
    clips = collate_wavs(nothing, "self_wav")
    assert list(clips.wav.shape) == facts["wav_shape"]
    assert float(clips.wav.sum()) == facts["wav_sum"]
    for name in ("length", "sample_rate", "path", "seek_time"):
        assert list(getattr(clips, name)) == facts[name]


def check_collation(facts):
    num_samples = facts["wav_shape"][-1]
    clip = wav_condition(torch.tensor([[2.0], [0.0]]).expand(2, num_samples), 32000)
    clip = clip._replace(path=["p"], seek_time=[1.0])
    samples = [
        ConditioningAttributes(text={"description": "x"}, wav={"self_wav": clip}),
        ClassifierFreeGuidanceDropout(1.0).apply(batch())[0],
    ]
    clips = collate_wavs(samples, "self_wav")
    assert collate_texts(samples, "description") == facts["description"]
    assert list(clips.wav.shape) == facts["wav_shape"]
    assert clips.wav.tolist() == facts["wav"]
    for name in ("length", "sample_rate", "path", "seek_time"):
        assert list(getattr(clips, name)) == facts[name]

    # Texts come before clips, for any order of the configuration.
    provider = ConditionProvider(
        {"self_wav": WavConditioner(1, 4), "description": LUTConditioner(5, 4, 4)}
    )
    assert provider.text_conditions + provider.wav_conditions == facts["order"]
