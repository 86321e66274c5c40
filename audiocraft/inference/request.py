"""Generation requests: the settings of one sample under the names of command line and page.

`MusicGen` keeps the argument names of the original; `PARAMETER_NAMES` maps ours to them.
"""

import dataclasses
import math
import typing as tp
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError
from ..utils.text import valid_unicode

MAX_TEXT = 2000  # characters
MAX_SEED = 2**62 - 1

PARAMETER_NAMES = {  # of `Request`: of `MusicGen`
    "guidance": "cfg_coef",
    "text_weight": "cfg_coef_beta",
    "style_detail": "eval_q",
}

Settings = tuple[tuple[str, tp.Any], ...]


@dataclass(frozen=True, kw_only=True)
class Request:
    """Settings of one sample. Times are in seconds.

    Numbers may be given as text, such as the cells of a table.

    Raises:
        ConfigError: A value has the wrong type or is out of range. Limits of a model are checked
            by `SampleGenerator.check`.
    """

    text: str | None = None  # description of the music
    style: str | None = None  # path of a style clip
    seed: int  # determines the sample
    duration: float = 10.0
    guidance: float = 3.0  # classifier-free guidance; 1 is off
    text_weight: float | None = 5.0  # with text and style: higher follows the text more
    style_detail: int = 3  # codebooks of the style bottleneck: 1 is loose, 6 is close
    excerpt_length: float = 3.0  # of the style excerpt
    excerpt_start: float | None = None  # of the style excerpt; None selects it by the seed
    temperature: float = 1.0  # 0 always takes the most likely token
    top_k: int = 250  # sample from the k most likely tokens; 0 is off
    top_p: float = 0.0  # sample from the most likely tokens of this total probability; 0 is off
    extend_stride: float | None = None  # seconds that each window adds to a long sample

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = _convert(field.type, field.name, getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        if self.text is not None:
            object.__setattr__(self, "text", valid_unicode(self.text))
            if len(self.text) > MAX_TEXT:
                raise ConfigError(
                    f"text has {len(self.text):,} characters ({self.text[:40]!r}…); the maximum "
                    f"is {MAX_TEXT:,}. Shorten it."
                )
        if self.style is not None and "\0" in self.style:
            raise ConfigError(f"style={self.style!r} is not a path: it contains a NUL character.")
        if not 0 <= self.seed <= MAX_SEED:
            raise ConfigError(f"seed must be from 0 to {MAX_SEED} but is {self.seed}.")

    @property
    def settings(self) -> Settings:
        """Settings that requests must share to be generated in one batch."""
        values = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("text", "style", "seed", "excerpt_start")
        }
        values["text_weight"] = self.text_weight if self.text and self.style else None
        return (*sorted(values.items()), ("style", self.style is not None))

    @staticmethod
    def from_dict(
        values: tp.Mapping[str, tp.Any], where: str, extra_names: tp.Sequence[str] = ()
    ) -> "Request":
        """Build a request from plain values, such as a row of a table.

        Args:
            values: Values by field name.
            where: Source of the values, named in errors.
            extra_names: Names that the caller accepts beside the fields, listed in errors.

        Raises:
            ConfigError: A name is unknown, or a value cannot be used.
        """
        names = [field.name for field in dataclasses.fields(Request)]
        unknown = sorted(map(str, set(values) - set(names)))
        if unknown:
            raise ConfigError(
                f"{where}: {unknown[0]!r} is unknown. Supported: "
                f"{', '.join([*names, *extra_names])}."
            )
        try:
            return Request(**values)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None


def _convert(annotation: tp.Any, name: str, value: tp.Any) -> tp.Any:
    """Convert a value to the type of its field."""
    types = tp.get_args(annotation) or (annotation,)
    wanted = next(type_ for type_ in types if type_ is not type(None))
    if isinstance(value, str):
        value = value.strip()
    if type(None) in types and value in (None, ""):
        return None
    return {str: to_text, int: to_integer, float: to_number}[wanted](name, value)


def to_text(name: str, value: tp.Any) -> str:
    """Return a cell as text; numbers are written as such.

    Raises:
        ConfigError: The value is neither text nor a number.
    """
    if isinstance(value, bool) or not isinstance(value, str | Path | int | float):
        raise ConfigError(f"{name} must be text but is {value!r}. Put it in quotes.")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)


def to_integer(name: str, value: tp.Any) -> int:
    """Return a cell as an integer; `"3"` and `3.0` are 3.

    Raises:
        ConfigError: The value is not an integer.
    """
    try:
        if isinstance(value, bool):
            raise ValueError
        if isinstance(value, str):
            try:
                return int(value)
            except ValueError:
                value = float(value)
        if not isinstance(value, int | float) or value != int(value):
            raise ValueError
        return int(value)
    except (ValueError, OverflowError):
        raise ConfigError(
            f"{name} must be a whole number but is {value!r}. Write it in digits, such as 3."
        ) from None


def to_number(name: str, value: tp.Any) -> float:
    """Return a cell as a finite number.

    Raises:
        ConfigError: The value is not a finite number.
    """
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        number = float(value)
        if not math.isfinite(number):
            raise ValueError
        return number
    except (ValueError, OverflowError):
        raise ConfigError(
            f"{name} must be a finite number but is {value!r}. Write it in digits, such as 2.5."
        ) from None
