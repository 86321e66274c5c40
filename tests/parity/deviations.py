"""Where ours differs from the original on purpose, and what ours gives instead.

An entry is keyed by kind and by a predicate on the call, never by a file's name. Its check runs
in place of the adapter's and asserts *our* result; the reason names what was wrong.
"""

import typing as tp
from dataclasses import dataclass

from .harness import Call, Case


@dataclass(frozen=True)
class Deviation:
    kind: str
    applies: tp.Callable[[Case, Call], bool]
    check: tp.Callable[[Case, Call], None]
    reason: str


DEVIATIONS: list[Deviation] = []


def deviation(kind: str, applies: tp.Callable[[Case, Call], bool], reason: str):
    """Register a check of our own result for the calls of `kind` that `applies` selects."""

    def register(check: tp.Callable[[Case, Call], None]):
        DEVIATIONS.append(Deviation(kind, applies, check, reason))
        return check

    return register


def deviation_of(kind: str, case: Case, call: Call | None) -> Deviation | None:
    """The first entry that this call falls under."""
    if call is None:
        return None
    return next((d for d in DEVIATIONS if d.kind == kind and d.applies(case, call)), None)
