"""Codebooks fitted to all rows at once, where there is no network that moves meanwhile.

How a row finds its entry is an argument: the nearest one, or one that a rule about whole sequences
chooses (`steady.py`). Entries are then the best ones for that rule.

Method: Lloyd, 1982, "Least squares quantization in PCM", for one codebook after the other; then
all of them give way to each other, as in Chan et al., 1992, "Joint codebook design for
multistage vector quantization".
"""

import typing as tp

import torch
from torch import Tensor
from tqdm import trange

from .codebook import nearest, pick_rows

Assign = tp.Callable[[Tensor, Tensor], Tensor]  # rows [N, D], entries [V, D] -> codes [N]


def k_means(
    rows: Tensor, num: int, iterations: int, rng: torch.Generator, assign: Assign = nearest
) -> Tensor:
    """Centres `[num, D]` of rows `[N, D]`; one that nobody chose moves onto a row."""
    centres = pick_rows(rows, num, rng)
    for _ in range(iterations):
        centres = _means(rows, assign(rows, centres), otherwise=pick_rows(rows, num, rng))
    return centres


def fit_residual_codebooks(
    rows: Tensor,
    num_codebooks: int,
    bins: int,
    *,
    iterations: int,
    rounds: int,
    rng: torch.Generator,
    assign: Assign = nearest,
    progress: bool = False,
) -> list[Tensor]:
    """Fit codebooks of which each describes what the ones before it left over.

    Args:
        rows: `[N, D]`, best a hundred times as many as a codebook has entries.
        num_codebooks: How many.
        bins: Entries of each.
        iterations: Of k-means, for each codebook.
        rounds: Of refining all codebooks together.
        rng: Draws the rows on which the entries start.
        assign: Chooses the code of every row; must be how the codebooks will be used.
        progress: Show bars.

    Returns:
        The entries of each codebook, `[bins, D]`.

    Raises:
        ValueError: There are fewer rows than entries.
    """
    if len(rows) < bins:
        raise ValueError(
            f"{len(rows)} rows cannot fill codebooks of {bins} entries. Give more rows."
        )
    codebooks, residual = [], rows
    for _ in trange(num_codebooks, desc="Fitting codebooks", disable=not progress):
        codebooks.append(k_means(residual, bins, iterations, rng, assign))
        residual = residual - codebooks[-1][assign(residual, codebooks[-1])]
    for _ in trange(rounds, desc="Refining them", disable=not progress):
        codebooks = _refine(rows, codebooks, assign)
    return codebooks


def _refine(rows: Tensor, codebooks: tp.Sequence[Tensor], assign: Assign) -> list[Tensor]:
    """Move the entries of each codebook to the means of what all the others leave over."""
    residual, codes = rows, []
    for entries in codebooks:
        codes.append(assign(residual, entries))
        residual = residual - entries[codes[-1]]
    refined = []
    for entries, chosen in zip(codebooks, codes):
        wanted = residual + entries[chosen]
        refined.append(_means(wanted, chosen, otherwise=entries))
        residual = wanted - refined[-1][chosen]
    return refined


def _means(rows: Tensor, codes: Tensor, otherwise: Tensor) -> Tensor:
    """Mean `[V, D]` of the rows `[N, D]` that have each code; `otherwise` where none has it."""
    counts = torch.bincount(codes, minlength=len(otherwise))[:, None]
    sums = torch.zeros_like(otherwise).index_add_(0, codes, rows)
    return torch.where(counts > 0, sums / counts.clamp(min=1), otherwise)
