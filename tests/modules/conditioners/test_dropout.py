import pytest
import torch

from audiocraft.data.conditions import ConditioningAttributes, wav_condition
from audiocraft.modules.conditioners import AttributeDropout, ClassifierFreeGuidanceDropout


def batch(size=3):
    clip = wav_condition(torch.ones(1, 8), 32000)
    return [ConditioningAttributes({"description": "x"}, {"self_wav": clip}) for _ in range(size)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def clip_is_null(sample):
    return int(sample.wav["self_wav"].length) == 0


def test_attribute_is_dropped_for_the_whole_batch():
    dropout = AttributeDropout({"text": {"description": 0.5}, "wav": {"self_wav": 0.5}})
    rng = generator()
    for _ in range(20):
        samples = dropout(batch(), rng, training=True)
        assert len({sample.text["description"] for sample in samples}) == 1
        assert len({clip_is_null(sample) for sample in samples}) == 1


def test_attributes_are_dropped_with_their_probability():
    dropout = AttributeDropout({"text": {"description": 0.4}, "wav": {"self_wav": 0.4}})
    rng = generator()
    drawn = [dropout.draw(rng) for _ in range(2000)]
    for kind in ("text", "wav"):
        rate = sum(bool(names[kind]) for names in drawn) / len(drawn)
        assert rate == pytest.approx(0.4, abs=0.04)


def test_guidance_dropout_drops_all_conditions():
    for sample in ClassifierFreeGuidanceDropout(1.0)(batch(), generator(), training=True):
        assert sample.text["description"] is None
        assert clip_is_null(sample)


def test_outside_training_nothing_is_dropped():
    samples = batch()
    assert AttributeDropout({"text": {"description": 1.0}})(samples, generator(), False) == samples
    assert ClassifierFreeGuidanceDropout(1.0)(samples, generator(), training=False) == samples


def test_dropout_can_be_enabled_in_evaluation():
    dropout = AttributeDropout({"text": {"description": 1.0}}, active_on_eval=True)
    assert dropout(batch(), generator(), training=False)[0].text["description"] is None


def test_given_samples_are_not_changed():
    samples = batch()
    ClassifierFreeGuidanceDropout(1.0)(samples, generator(), training=True)
    assert samples[0].text["description"] == "x"


@pytest.mark.parametrize(
    "make",
    [
        lambda: ClassifierFreeGuidanceDropout(1.5),
        lambda: AttributeDropout({"text": {"description": -0.1}}),
    ],
)
def test_invalid_probability_raises(make):
    with pytest.raises(ValueError, match="between 0 and 1"):
        make()


def test_unknown_attribute_kind_raises():
    with pytest.raises(ValueError, match=r"attribute_dropout\.video"):
        AttributeDropout({"video": {"self_wav": 0.1}})
