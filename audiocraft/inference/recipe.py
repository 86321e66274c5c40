"""How a piece of music was made, so that it can be made again, bit for bit.

A recipe lies beside its audio as JSON. It holds everything that decides about the samples: the
weights (by their hash), the request with its seed and the second at which the clip was heard, and
the place in the batch, since the last bits of a sum depend on how many are summed at once. On
another machine, or with another version of PyTorch, those bits may differ.
"""

import dataclasses
import json
import typing as tp
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError
from .request import Request

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One piece. `from_dict(to_dict())` is the same recipe."""

    model: str  # as it was named
    model_hash: str
    request: Request  # `excerpt_start` is filled in
    style_sha256: str | None  # of the file of the clip
    batch_size: int
    position: int  # in the batch
    machine: dict[str, tp.Any]  # device, dtype, threads, version of PyTorch
    sample_rate: int  # Hz
    waveform_sha256: str  # of the samples, before a file format rounded them
    audio: str | None = None  # name of the file

    def to_dict(self) -> dict[str, tp.Any]:
        """As plain values."""
        return {"format": FORMAT} | dataclasses.asdict(self)

    @staticmethod
    def from_dict(values: tp.Any, where: str) -> "Recipe":
        """From plain values.

        Raises:
            ConfigError: They are none of a recipe; the message begins with `where`.
        """
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ConfigError(f"{where} is no recipe of this version of audiocraft.")
        try:
            fields = {key: value for key, value in values.items() if key != "format"}
            request = Request.from_dict(fields.pop("request"), where)
            return Recipe(**fields, request=request)
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{where} is a recipe with a field too many or few: {error}."
            ) from None

    @staticmethod
    def load(path: Path) -> "Recipe":
        """From a JSON file.

        Raises:
            ConfigError: There is none, or it holds something else.
        """
        try:
            return Recipe.from_dict(json.loads(path.read_text()), str(path))
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
        except ValueError as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"{path} is no JSON: {error}.") from None
