"""Deliberate deviations from the original implementation, and checks of our results.

An entry is selected by kind and by a predicate on the call, never by a file name. Its check
replaces that of the adapter and asserts *our* result; the reason names the error of the original.
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
    """Return the first entry that applies to the call."""
    if call is None:
        return None
    return next((d for d in DEVIATIONS if d.kind == kind and d.applies(case, call)), None)
