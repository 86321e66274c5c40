"""K-means: residual codebooks fitted to a fixed set of rows.

The assignment of rows to entries is an argument: nearest entries, or change-penalised quantization
(`viterbi.py`). Entries are then optimal for that assignment.

Method: Lloyd, 1982, "Least squares quantization in PCM", for one codebook after the other; then
all are refined jointly, as in Chan et al., 1992, "Joint codebook design for multistage vector
quantization".
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
    """Centres `[num, D]` of rows `[N, D]`; a centre without rows is moved onto a row."""
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
    """Fit codebooks, each to the residual of the ones before it.

    Args:
        rows: `[N, D]`, preferably a hundred times as many as entries.
        num_codebooks: Number of codebooks.
        bins: Entries of each codebook, V.
        iterations: K-means iterations per codebook.
        rounds: Iterations of the joint refinement.
        rng: Draws the initial entries from the rows.
        assign: Computes the codes of rows; must be how the codebooks will be used.
        progress: Show progress bars.

    Returns:
        The entries of each codebook, `[bins, D]`.

    Raises:
        ValueError: There are fewer rows than entries.
    """
    if len(rows) < bins:
        raise ValueError(
            f"There are {len(rows)} rows for codebooks of {bins} entries. Provide more rows."
        )
    codebooks, residual = [], rows
    for _ in trange(num_codebooks, desc="Fitting codebooks", disable=not progress):
        codebooks.append(k_means(residual, bins, iterations, rng, assign))
        residual = residual - codebooks[-1][assign(residual, codebooks[-1])]
    for _ in trange(rounds, desc="Refining codebooks", disable=not progress):
        codebooks = _refine(rows, codebooks, assign)
    return codebooks


def _refine(rows: Tensor, codebooks: tp.Sequence[Tensor], assign: Assign) -> list[Tensor]:
    """Move the entries of each codebook to the means of the residual of all the others."""
    residual, codes = rows, []
    for entries in codebooks:
        codes.append(assign(residual, entries))
        residual = residual - entries[codes[-1]]
    refined = []
    for entries, chosen in zip(codebooks, codes):
        target = residual + entries[chosen]
        refined.append(_means(target, chosen, otherwise=entries))
        residual = target - refined[-1][chosen]
    return refined


def _means(rows: Tensor, codes: Tensor, otherwise: Tensor) -> Tensor:
    """Mean `[V, D]` of the rows `[N, D]` of each code; `otherwise` where there are none."""
    counts = torch.bincount(codes, minlength=len(otherwise))[:, None]
    sums = torch.zeros_like(otherwise).index_add_(0, codes, rows)
    return torch.where(counts > 0, sums / counts.clamp(min=1), otherwise)
