"""ViSQOL: estimated listening quality of a reconstruction, on a scale from 1 to 5.

Method: Chinen et al., 2020, https://arxiv.org/abs/2004.09584; computed by the optional package
`visqol-python` (Apache-2.0), which brings its models.
"""

import typing as tp

from torch import Tensor

from ..data.audio_utils import convert_audio
from ..errors import ConfigError

RATES = {"audio": 48_000, "speech": 16_000}  # Hz, at which each mode compares


class Visqol:
    """Mean opinion score of mono mixes.

    Args:
        mode: `audio` for music, `speech` for speech.
        bin: Accepted for configurations of the original, which ran a binary; not needed.
        model: As `bin`; each mode has its own model.

    Raises:
        ConfigError: `mode` is not supported, or the package is not installed.
    """

    def __init__(self, mode: str = "audio", bin: str | None = None, model: str | None = None):
        if mode not in RATES:
            raise ConfigError(
                f"metrics.visqol.mode={mode!r} is not supported. Supported: {', '.join(RATES)}."
            )
        try:
            from visqol import VisqolApi  # noqa: PLC0415  # pyright: ignore
        except ImportError as error:
            raise ConfigError(
                "evaluate.metrics.visqol=true needs a package: pip install visqol-python. Or set "
                "evaluate.metrics.visqol=false."
            ) from error
        self.sample_rate = RATES[mode]
        self.api: tp.Any = VisqolApi()
        self.api.create(mode=mode)

    def __call__(self, original: Tensor, rebuilt: Tensor, sample_rate: int) -> list[float]:
        """Scores of waveforms `[B, C, T]`, one per item."""
        scores = []
        for pair in zip(original, rebuilt):
            mixes = [convert_audio(w.float().cpu(), sample_rate, self.sample_rate, 1) for w in pair]
            arrays = [mix[0].double().numpy() for mix in mixes]
            scores.append(float(self.api.measure_from_arrays(*arrays, self.sample_rate).moslqo))
        return scores
