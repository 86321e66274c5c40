import torch

from audiocraft.data.conditions import ConditioningAttributes, wav_condition
from audiocraft.modules.conditioners import (
    Condition,
    ConditionProvider,
    LUTConditioner,
    WavConditioner,
)


class Loudness(WavConditioner):
    """Encodes a clip as one vector: its mean."""

    def __init__(self):
        super().__init__(1, 4)

    def prepare(self, values, rng=None):
        return values

    def forward(self, prepared):
        present = prepared.length[:, None] > 0
        return self.project(prepared.wav.mean(-1, keepdim=True), present)


def provider():
    return ConditionProvider({"self_wav": Loudness(), "description": LUTConditioner(7, 3, 4)})


def test_text_conditions_precede_waveform_conditions():
    clip = wav_condition(torch.ones(1, 8), 32000)
    ours = provider()
    conditions = ours(
        ours.prepare([ConditioningAttributes({"description": "x"}, {"self_wav": clip})])
    )
    assert list(conditions) == ["description", "self_wav"]
    assert all(isinstance(condition, Condition) for condition in conditions.values())


def test_missing_attribute_is_null_and_one_without_conditioner_is_ignored():
    ours = provider()
    samples = [
        ConditioningAttributes({"description": "x", "mood": "calm"}),
        ConditioningAttributes(),
    ]
    conditions = ours(ours.prepare(samples))
    assert conditions["description"].mask.any(1).tolist() == [True, False]
    assert not conditions["self_wav"].embed.any()


def test_weights_are_named_by_attribute():
    assert "conditioners.description.output_proj.weight" in provider().state_dict()
