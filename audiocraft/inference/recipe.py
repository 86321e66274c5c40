"""Recipes: all inputs of a generated sample, as JSON beside its audio.

A recipe reproduces its sample bit for bit. It contains the hash of the weights, the request with
its seed and excerpt, and the position in the batch, since the rounding of a sum depends on the
batch size. Other hardware or another version of PyTorch may round differently.
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
    """Inputs of one sample. `from_dict(to_dict())` gives an equal recipe."""

    model: str  # name of the model, as given
    model_hash: str
    request: Request  # with `excerpt_start` filled in
    style_sha256: str | None  # of the file of the style clip
    batch_size: int
    position: int  # in the batch
    machine: dict[str, tp.Any]  # device, dtype, threads, PyTorch version
    sample_rate: int  # Hz
    waveform_sha256: str  # of the float32 samples, before encoding to a file format
    audio: str | None = None  # file name

    def to_dict(self) -> dict[str, tp.Any]:
        """Return plain values for JSON."""
        return {"format": FORMAT} | dataclasses.asdict(self)

    @staticmethod
    def from_dict(values: tp.Any, where: str) -> "Recipe":
        """Build a recipe from plain values.

        Args:
            values: Content of a JSON file.
            where: Source of the values, named in errors.

        Raises:
            ConfigError: The values are not a recipe of this version.
        """
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ConfigError(f"{where} is not a recipe of this version of audiocraft.")
        try:
            fields = {key: value for key, value in values.items() if key != "format"}
            request = Request.from_dict(fields.pop("request"), where)
            return Recipe(**fields, request=request)
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{where} is a recipe with a missing or extra field: {error}."
            ) from None

    @staticmethod
    def load(path: Path) -> "Recipe":
        """Read a recipe from a JSON file.

        Raises:
            ConfigError: The file cannot be read or is not a recipe.
        """
        try:
            return Recipe.from_dict(json.loads(path.read_text(encoding="utf-8")), str(path))
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
        except (ValueError, RecursionError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"{path} is not JSON: {error}.") from None
