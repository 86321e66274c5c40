"""One codebook that follows the data by exponential moving averages.

It is never trained by gradients: each training batch moves an entry towards the mean of the
rows that chose it. Entries start as k-means centres of the first batch, and an entry that hardly
anybody chooses is moved onto a row of the batch, where somebody will. Over several processes the
statistics are summed, so that N processes learn what one process with the whole batch would.

Method: van den Oord et al., 2017, https://arxiv.org/abs/1711.00937 (appendix A.1); start and
revival: Zeghidour et al., 2021, https://arxiv.org/abs/2107.03312.
"""

import typing as tp

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F

MAX_ROWS = 16_384  # compared with all entries at a time, which bounds the memory
LAPLACE_EPS = 1e-5  # added to each count, so that an unused entry divides by no zero

PickRows = tp.Callable[[Tensor, int, torch.Generator | None], Tensor]


def pick_rows(rows: Tensor, num: int, rng: torch.Generator | None) -> Tensor:
    """Pick `num` of the rows `[N, D]`, each at most once where there are enough.

    Args:
        rows: Candidates, at least one.
        num: How many to pick.
        rng: Draws which; `None` takes them evenly spaced.
    """
    return rows[draw_picks(len(rows), num, rng).to(rows.device)]


def draw_picks(available: int, num: int, rng: torch.Generator | None) -> Tensor:
    """Numbers of the rows that `pick_rows` picks, `[num]`."""
    if rng is None:
        return torch.arange(num) * available // num
    if available >= num:
        return torch.randperm(available, generator=rng, device=rng.device)[:num]
    return torch.randint(available, (num,), generator=rng, device=rng.device)


def nearest(rows: Tensor, entries: Tensor) -> Tensor:
    """Index of the entry `[V, D]` that is nearest to each row `[N, D]`."""
    norms = entries.square().sum(dim=1)
    chunks = [norms - 2 * chunk @ entries.t() for chunk in rows.split(MAX_ROWS)]
    return torch.cat([distances.argmin(dim=1) for distances in chunks])


class EuclideanCodebook(nn.Module):
    """Nearest-neighbour codebook with moving averages; all of its state is buffers.

    Args:
        dim: Width of a row.
        bins: Number of entries.
        decay: Share of the old average that stays at each training step.
        kmeans_init: Start as k-means of the first training batch, else at random.
        kmeans_iters: Iterations of that k-means.
        threshold_ema_dead_code: An entry that fewer rows per batch choose, on average, is dead
            and will be revived, unless it is chosen half as often as the mean entry; 0 is never.
        pick_rows: Picks the rows on which entries start or are revived.
        shrinking_start: Let the k-means start of the first training batch shrink at the next
            updates, as that of released models does.
    """

    inited: Tensor  # [1], 1 once the entries have a start
    cluster_size: Tensor  # [V], how many rows of a batch choose an entry
    embed: Tensor  # [V, D], the entries
    embed_avg: Tensor  # [V, D], sum of those rows

    def __init__(
        self,
        dim: int,
        bins: int,
        decay: float = 0.99,
        kmeans_init: bool = True,
        kmeans_iters: int = 10,
        threshold_ema_dead_code: float = 2.0,
        pick_rows: PickRows = pick_rows,
        shrinking_start: bool = True,
    ):
        super().__init__()
        self.decay = decay
        self.kmeans_iters = kmeans_iters
        self.threshold_ema_dead_code = threshold_ema_dead_code
        self.pick_rows = pick_rows
        self.shrinking_start = shrinking_start
        embed = torch.zeros(bins, dim)
        if not kmeans_init:
            nn.init.kaiming_uniform_(embed)
        self.register_buffer("inited", torch.tensor([float(not kmeans_init)]))
        self.register_buffer("cluster_size", torch.zeros(bins))
        self.register_buffer("embed", embed)
        self.register_buffer("embed_avg", embed.clone())

    @torch.no_grad()
    def encode(self, rows: Tensor) -> Tensor:
        """Rows `[..., D]` to indices `[...]`, always compared in full precision."""
        with torch.autocast(rows.device.type, enabled=False):
            flat = rows.reshape(-1, rows.shape[-1])
            return nearest(flat.float(), self.embed.float()).view(rows.shape[:-1])

    def decode(self, codes: Tensor) -> Tensor:
        """Indices `[...]` to entries `[..., D]`."""
        return F.embedding(codes, self.embed)

    def forward(self, rows: Tensor, rng: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Quantize, and learn from the rows when in training mode.

        Args:
            rows: `[..., D]`; no row at all is allowed, and teaches nothing.
            rng: Draws the rows for a start and for revivals.

        Returns:
            Entries `[..., D]` and indices `[...]`, both from before this step's update.
        """
        if not self.training:
            codes = self.encode(rows)
            return self.decode(codes), codes
        with torch.autocast(rows.device.type, enabled=False):
            flat = rows.detach().reshape(-1, rows.shape[-1]).to(self.embed)
            quantized, codes = self._learn(flat, rng)
        return quantized.view(rows.shape), codes.view(rows.shape[:-1])

    def _learn(self, rows: Tensor, rng: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Quantize rows `[N, D]`, and follow them if any process has some."""
        teaching = bool(sum_over_ranks(self.embed.new_tensor(len(rows))) > 0)
        if teaching and not self.inited:
            self.start(rows, rng)
            if self.shrinking_start:  # the centres where their sums belong
                self.embed_avg.copy_(self.embed)
        codes = nearest(rows, self.embed)
        quantized = self.decode(codes)
        if teaching:
            self._update(rows, codes, rng)
        return quantized, codes

    @torch.no_grad()
    def start(self, rows: Tensor, rng: torch.Generator | None = None) -> None:
        """Put the entries on the k-means centres of the rows `[N, D]`; at least one row."""
        self.embed.copy_(self._pick(rows, rng))
        for _ in range(self.kmeans_iters):
            counts, sums = self._statistics(rows, nearest(rows, self.embed))
            means = sums / counts.clamp(min=1)[:, None]
            self.embed.copy_(torch.where(counts[:, None] > 0, means, self.embed))
            self.cluster_size.copy_(counts)
        self.embed_avg.copy_(self.embed * self.cluster_size[:, None])
        self.inited.fill_(1)

    @torch.no_grad()
    def _update(self, rows: Tensor, codes: Tensor, rng: torch.Generator | None) -> None:
        """Move each entry towards the rows that chose it; revive the dead ones."""
        dead = self.dead_entries()
        counts, sums = self._statistics(rows, codes)
        self.cluster_size.lerp_(counts, 1 - self.decay)
        self.embed_avg.lerp_(sums, 1 - self.decay)
        total = self.cluster_size.sum()
        smooth = (self.cluster_size + LAPLACE_EPS) / (total + len(self.embed) * LAPLACE_EPS) * total
        self.embed.copy_(self.embed_avg / smooth[:, None])
        if dead.any():
            self._revive(dead, rows, rng)

    def dead_entries(self) -> Tensor:
        """Mask `[V]` of the entries that the next training step will revive."""
        # Without the second limit, a threshold above rows per batch / V would kill all at once.
        dead = self.cluster_size < self.threshold_ema_dead_code
        return dead & (self.cluster_size < self.cluster_size.mean() / 2)

    def _revive(self, dead: Tensor, rows: Tensor, rng: torch.Generator | None) -> None:
        """Move the dead entries onto rows of the batch, and let them count as average ones.

        All three averages are set: were it the entry alone, the next update would undo it.
        """
        usage = self.cluster_size.mean()
        picked = self._pick(rows, rng)
        self.embed.copy_(torch.where(dead[:, None], picked, self.embed))
        self.embed_avg.copy_(torch.where(dead[:, None], picked * usage, self.embed_avg))
        self.cluster_size.copy_(torch.where(dead, usage, self.cluster_size))

    def _pick(self, rows: Tensor, rng: torch.Generator | None) -> Tensor:
        """One row per entry, `[V, D]`, the same in every process."""
        if many_ranks():
            return pick_rows_of_all_ranks(rows, len(self.embed), rng)
        return self.pick_rows(rows, len(self.embed), rng)

    def _statistics(self, rows: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """How many rows chose each entry, `[V]`, and the sum of those rows, `[V, D]`."""
        counts = torch.zeros_like(self.cluster_size)
        sums = torch.zeros_like(self.embed)
        bins = torch.arange(len(self.embed), device=codes.device)
        for some_codes, some_rows in zip(codes.split(MAX_ROWS), rows.split(MAX_ROWS)):
            chosen = (some_codes == bins[:, None]).to(rows)  # [V, N]
            counts += chosen.sum(dim=1)
            sums += chosen @ some_rows  # as a product, which a GPU repeats bit by bit
        return sum_over_ranks(counts), sum_over_ranks(sums)


def many_ranks() -> bool:
    """Whether this is one of several processes."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def sum_over_ranks(values: Tensor) -> Tensor:
    """Sum in place over all processes; every process has to call it."""
    if many_ranks():
        dist.all_reduce(values)
    return values


def pick_rows_of_all_ranks(rows: Tensor, num: int, rng: torch.Generator | None) -> Tensor:
    """What `pick_rows` picks of the rows of all processes, one after the other.

    Args:
        rows: Those of this process, `[N, D]`, perhaps none; at least one process has some.
        num: How many to pick.
        rng: Draws which; that of the first process decides.

    Returns:
        `[num, D]`, the same in every process.
    """
    counts = torch.zeros(dist.get_world_size(), dtype=torch.long, device=rows.device)
    counts[dist.get_rank()] = len(rows)
    dist.all_reduce(counts)
    chosen = draw_picks(int(counts.sum()), num, rng).to(rows.device)
    dist.broadcast(chosen, src=0)
    own = chosen - counts[: dist.get_rank()].sum()  # numbers within this process's rows
    mine = (own >= 0) & (own < len(rows))
    picked = rows.new_zeros(num, rows.shape[1])
    picked[mine] = rows[own[mine]]
    dist.all_reduce(picked)
    return picked
