"""Residual vector quantization: each codebook quantizes the residual of the ones before it.

Method: Zeghidour et al., 2021, https://arxiv.org/abs/2107.03312.
"""

import math
import typing as tp

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import BaseQuantizer, QuantizedResult
from .codebook import EuclideanCodebook


def draw_num_codebooks(n_q: int, rng: torch.Generator) -> int:
    """Draw the number of codebooks of a training batch, 1 … `n_q` (quantizer dropout)."""
    return int(torch.randint(1, n_q + 1, (), generator=rng, device=rng.device))


class ResidualVectorQuantizer(BaseQuantizer):
    """Quantizer of latents `[B, D, F]` with `n_q` codebooks of `bins` entries.

    In training mode the codebooks follow every batch that holds at least one frame, and gradients
    pass straight through to the input. The caller draws the quantizer dropout, with
    `draw_num_codebooks`. Over several processes each of them has to call `forward` equally often.

    Args:
        dimension: Width D of the latent, and of every codebook.
        n_q: Number of codebooks.
        q_dropout: Whether a trainer should draw the number of codebooks per batch.
        bins: Entries of each codebook.
        decay: Share of the old average that is kept at each training step.
        kmeans_init: Start the codebooks as k-means of the first training batch.
        kmeans_iters: Iterations of that k-means.
        threshold_ema_dead_code: Entries used less often per batch are revived; 0: never.
        orthogonal_reg_weight: Weight in the penalty of how far the entries are from orthogonal.
        orthogonal_reg_active_codes_only: Restrict that term to the entries used in the batch.
        orthogonal_reg_max_codes: Restrict that term to this many entries, drawn at random.
        shrinking_start: See `EuclideanCodebook`; a model trained from scratch is better without.

    Raises:
        ValueError: `n_q` or `kmeans_iters` is less than 1.
    """

    def __init__(
        self,
        dimension: int = 256,
        n_q: int = 8,
        q_dropout: bool = False,
        bins: int = 1024,
        decay: float = 0.99,
        kmeans_init: bool = True,
        kmeans_iters: int = 10,
        threshold_ema_dead_code: float = 2,
        orthogonal_reg_weight: float = 0.0,
        orthogonal_reg_active_codes_only: bool = False,
        orthogonal_reg_max_codes: int | None = None,
        shrinking_start: bool = True,
    ):
        super().__init__()
        if n_q < 1 or kmeans_iters < 1:
            raise ValueError(f"n_q is {n_q}, kmeans_iters {kmeans_iters}; both must be at least 1.")
        self.dimension = dimension
        self.n_q = n_q
        self.max_n_q = n_q
        self.q_dropout = q_dropout
        self.bins = bins
        self.orthogonal_reg_weight = orthogonal_reg_weight
        self.orthogonal_reg_active_codes_only = orthogonal_reg_active_codes_only
        self.orthogonal_reg_max_codes = orthogonal_reg_max_codes
        codebooks = [
            EuclideanCodebook(
                dimension,
                bins,
                decay,
                kmeans_init,
                kmeans_iters,
                threshold_ema_dead_code,
                shrinking_start=shrinking_start,
            )
            for _ in range(n_q)
        ]
        # The nesting spells the keys of released checkpoints: vq.layers.0._codebook.embed
        layers = nn.ModuleList([nn.ModuleDict({"_codebook": book}) for book in codebooks])
        self.vq = nn.ModuleDict({"layers": layers})

    @property
    def codebooks(self) -> list[EuclideanCodebook]:
        """All codebooks, the coarsest first."""
        layers = tp.cast(nn.ModuleList, self.vq["layers"])
        return [tp.cast(EuclideanCodebook, layer.get_submodule("_codebook")) for layer in layers]

    @property
    def num_codebooks(self) -> int:
        """Number of codebooks in use."""
        return self.n_q

    @property
    def total_codebooks(self) -> int:
        """Number of codebooks."""
        return self.max_n_q

    def set_num_codebooks(self, n: int) -> None:
        """Use the first `n` codebooks from now on.

        Raises:
            ValueError: There are fewer codebooks.
        """
        self.n_q = self._checked_number(n)

    def forward(
        self,
        x: Tensor,
        frame_rate: float,
        *,
        num_codebooks: int | None = None,
        rng: torch.Generator | None = None,
        update: bool = True,
    ) -> QuantizedResult:
        """Quantize, and update the codebooks in training mode.

        Args:
            x: Latent, `[B, D, F]`; F or B may be 0, which leaves the codebooks unchanged.
            frame_rate: Frames per second, for the bandwidth.
            num_codebooks: Number of codebooks to use; `None` takes `self.num_codebooks`.
            rng: Draws rows for the k-means start and for revivals; `None` takes rows that are
                evenly spaced.
            update: `False` behaves as in evaluation mode.

        Raises:
            ValueError: The latent has another width, or there are fewer codebooks.
        """
        training = self.training and update
        n = self.n_q if num_codebooks is None else self._checked_number(num_codebooks)
        rows = self._rows(x)
        residual, quantized = rows, torch.zeros_like(rows)
        codes, penalties = [], []
        for book in self.codebooks[:n]:
            found, indices = book(residual, rng, training)
            found = found.to(residual)
            if training:
                penalties.append(self._penalty(book, residual, found, indices, rng))
            residual = residual - found
            quantized = quantized + found
            codes.append(indices)
        if training:
            self._sum_with_other_ranks(residual, n, rng)
            quantized = rows + (quantized - rows).detach()  # straight through
        bandwidth = n * math.log2(self.bins) * frame_rate / 1000
        return QuantizedResult(
            x=quantized.transpose(1, 2),
            codes=torch.stack(codes, dim=1),
            bandwidth=torch.full((), bandwidth, device=x.device),
            penalty=torch.stack(penalties).mean() if training else residual.new_zeros(()),
        )

    @torch.no_grad()
    def initialize(self, x: Tensor, rng: torch.Generator | None = None) -> None:
        """Fit all codebooks to a latent `[B, D, F]` by k-means, one after the other.

        Without it, the first training batch initializes them less well (as in released models,
        whose entries shrink at first and take long to recover).
        """
        residual = self._rows(x).flatten(0, 1)
        for book in self.codebooks:
            book.initialize(residual.to(book.embed), rng)
            residual = residual - book.decode(book.encode(residual))

    @torch.no_grad()
    def encode(self, x: Tensor, num_codebooks: int | None = None) -> Tensor:
        """Latent `[B, D, F]` to codes `[B, K, F]`; never updates the codebooks."""
        n = self.n_q if num_codebooks is None else self._checked_number(num_codebooks)
        residual = self._rows(x)
        codes = []
        for book in self.codebooks[:n]:
            codes.append(book.encode(residual))
            residual = residual - book.decode(codes[-1]).to(residual)
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes `[B, K, F]`, of the first K codebooks, to a latent `[B, D, F]`.

        Raises:
            ValueError: K is zero or larger than the number of codebooks.
        """
        if codes.dim() != 3:
            raise ValueError(f"Codes must be [B, K, F] but have the shape {tuple(codes.shape)}.")
        n = self._checked_number(codes.shape[1])
        books = zip(self.codebooks[:n], codes.unbind(dim=1))
        return torch.stack([book.decode(indices) for book, indices in books]).sum(0).transpose(1, 2)

    def _penalty(
        self,
        book: EuclideanCodebook,
        residual: Tensor,
        found: Tensor,
        codes: Tensor,
        rng: torch.Generator | None,
    ) -> Tensor:
        """Commitment loss of one codebook, plus the weighted distance from orthogonality."""
        if residual.numel() == 0:
            return residual.new_zeros(())
        penalty = F.mse_loss(residual, found)
        if self.orthogonal_reg_weight > 0:
            entries = book.embed
            if self.orthogonal_reg_active_codes_only:
                entries = entries[codes.unique()]
            if self.orthogonal_reg_max_codes is not None:
                most = min(self.orthogonal_reg_max_codes, len(entries))
                entries = book.pick_rows(entries, most, rng)
            penalty = penalty + self.orthogonal_reg_weight * distance_from_orthogonal(entries)
        return penalty

    def _sum_with_other_ranks(self, rows: Tensor, n: int, rng: torch.Generator | None) -> None:
        """Take part in the sums of codebooks that only other processes use in this step."""
        for book in self.codebooks[n:]:
            book(rows[:0], rng)

    def _rows(self, x: Tensor) -> Tensor:
        """`[B, D, F]` to `[B, F, D]`, checked."""
        if x.dim() != 3 or x.shape[1] != self.dimension:
            raise ValueError(
                f"The quantizer takes latents [B, {self.dimension}, F] but got {list(x.shape)}. "
                "Set its `dimension` to the width of the encoder's output."
            )
        return x.transpose(1, 2)

    def _checked_number(self, n: int) -> int:
        if not 1 <= n <= self.max_n_q:
            raise ValueError(
                f"The number of codebooks is {n}, but the quantizer has 1 to {self.max_n_q}."
            )
        return n


def distance_from_orthogonal(entries: Tensor) -> Tensor:
    """Mean squared cosine between different entries `[V, D]`."""
    directions = F.normalize(entries, dim=1)
    cosines = directions @ directions.t()
    return cosines.square().mean() - 1 / len(entries)
