"""What somebody asks for: one piece of music, in clear words.

The names are those of the command line and of the page. `MusicGen` keeps the names that scripts
for the original use; `PARAMETER_NAMES` says which is which.
"""

import dataclasses
import math
import typing as tp
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError

MAX_TEXT = 2000  # characters
MAX_SEED = 2**62 - 1

# What a request calls it, and what `MusicGen` does.
PARAMETER_NAMES = {
    "guidance": "cfg_coef",
    "text_weight": "cfg_coef_beta",
    "style_detail": "eval_q",
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """One piece of music. Times are in seconds.

    Raises:
        ConfigError: A value is of the wrong kind; what a model cannot do is found out by `SampleGenerator`.
    """

    text: str | None = None  # a sentence that describes it
    style: str | None = None  # path of a clip in whose style it shall be
    seed: int  # the same seed gives the same piece
    duration: float = 10.0
    guidance: float = 3.0  # how closely text and style are followed; 1 is not pushed at all
    text_weight: float | None = 5.0  # where both are given: higher means more of the text
    style_detail: int = 3  # 1 is loose, as many as the bottleneck has codebooks is close
    excerpt_length: float = 3.0  # how much of the clip is heard
    excerpt_start: float | None = None  # where; None: drawn from the seed
    temperature: float = 1.0  # less is more careful
    top_k: int = 250  # choose among so many tokens; 0 is all
    top_p: float = 0.0  # or among the likeliest that sum to this; 0 is off
    extend_stride: float | None = None  # beyond the model's window, what each window adds

    def __post_init__(self):
        for field in dataclasses.fields(self):
            checked = _as(field.type, field.name, getattr(self, field.name))
            object.__setattr__(self, field.name, checked)
        if self.text is not None and len(self.text) > MAX_TEXT:
            raise ConfigError(
                f"The text has {len(self.text):,} characters ({self.text[:40]!r}…). "
                f"Say it in at most {MAX_TEXT:,}."
            )

        if not 0 <= self.seed <= MAX_SEED:
            raise ConfigError(f"A seed is a number from 0 to {MAX_SEED}, not {self.seed}.")

    @property
    def settings(self) -> "Settings":
        """What requests that are computed together have in common."""
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
        """A request from plain values, such as a line of a table.

        Args:
            values: By the names of the fields.
            where: Named in errors.
            beside: Names that the caller knows beside them, for the error of an unknown one.

        Raises:
            ConfigError: A name is unknown, or a value is wrong.
        """
        known = [field.name for field in dataclasses.fields(Request)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            names = ", ".join([*known, *extra_names])
            raise ConfigError(f"{where}: {unknown[0]!r} is unknown. There is: {names}.")
        try:
            return Request(**values)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None


Settings = tuple[tuple[str, tp.Any], ...]


def _as(kind: tp.Any, name: str, value: tp.Any) -> tp.Any:
    """A value as the kind of its field; cells of a table are texts."""
    wanted = next(part for part in tp.get_args(kind) or (kind,) if part is not type(None))
    is_optional = type(None) in tp.get_args(kind)
    if isinstance(value, str):
        value = value.strip()
    if is_optional and (value is None or value == ""):
        return None
    try:
        if wanted is str:
            if not isinstance(value, str | Path):
                raise ValueError
            return str(value)
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        number = wanted(value)
        if not math.isfinite(number) or (not isinstance(value, str) and number != value):
            raise ValueError
        return number
    except (ValueError, OverflowError):
        what = {str: "a text", int: "a whole number", float: "a number"}[wanted]
        raise ConfigError(f"{name} must be {what} but is {value!r}.") from None
