"""Feature extractor for tests: cheap, deterministic, and it records its inputs."""

import torch

from audiocraft.modules.conditioners import FeatureExtractor, StyleConditioner, StyleScale

SAMPLE_RATE = 800


class StubFeatureExtractor(FeatureExtractor):
    """Frames are 8 raw samples, 100 per second."""

    sample_rate = SAMPLE_RATE
    frame_rate = 100.0
    dim = 8

    def __init__(self):
        self.inputs = []

    def features(self, wav):
        self.inputs.append(wav)
        return wav.unfold(1, self.dim, self.dim)

    def num_frames(self, num_samples):
        return num_samples // self.dim


def style_conditioner(**options) -> StyleConditioner:
    """A small conditioner at 800 samples per second, with excerpts of 0.3 s."""
    small = {
        "feature_extractor": StubFeatureExtractor(),
        "output_dim": 6,
        "transformer_scale": StyleScale(d_model=16, num_heads=2, num_layers=1),
        "sample_rate": SAMPLE_RATE,
        "length": 0.3,
        "varying_lengths": (0.15, 0.45),
        "ds_factor": 5,
        "n_q_out": 4,
        "eval_q": 2,
        "bins": 8,
        "ds_rate_compression": 16,
    }
    torch.manual_seed(0)
    return StyleConditioner(**(small | options))
