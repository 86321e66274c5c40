"""Vector quantizer with one codebook, updated by exponential moving averages.

The codebook is never trained by gradients: each training batch moves an entry towards the mean
of the rows that are assigned to it. Entries start as k-means centres of the first batch, and a
dead code (an entry with hardly any rows) is revived by moving it onto a row of the batch. Over
several processes the statistics are summed, so that N processes learn what one process with the
whole batch would.

Method: van den Oord et al., 2017, https://arxiv.org/abs/1711.00937 (appendix A.1); k-means start
and revival: Zeghidour et al., 2021, https://arxiv.org/abs/2107.03312.
"""

import typing as tp

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F

MAX_ROWS = 16_384  # compared with all entries at a time, which bounds the memory
LAPLACE_EPS = 1e-5  # added to each count, so that an unused entry is not divided by zero

PickRows = tp.Callable[[Tensor, int, torch.Generator | None], Tensor]


def pick_rows(rows: Tensor, num: int, rng: torch.Generator | None) -> Tensor:
    """Pick `num` of the rows `[N, D]`, each at most once where there are enough.

    Args:
        rows: Candidates, at least one.
        num: Number of rows to pick.
        rng: Draws the rows; `None` takes them evenly spaced.
    """
    return rows[draw_picks(len(rows), num, rng).to(rows.device)]


def draw_picks(available: int, num: int, rng: torch.Generator | None) -> Tensor:
    """Indices of the rows that `pick_rows` picks, `[num]`."""
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


class HostCopy:
    """Host copy of a boolean that the device computes from a buffer.

    The copy is made when the buffer changes and read a training step later, so that the host does
    not wait for a GPU. It is invalid once the buffer is changed by anything else.
    """

    def __init__(self, buffer: Tensor, value: Tensor):
        self.buffer, self.version = buffer, buffer._version
        self.event = None
        self.value = value
        if value.device.type == "cuda":
            self.value = torch.empty((), dtype=torch.bool, pin_memory=True)
            self.value.copy_(value, non_blocking=True)
            self.event = torch.cuda.Event()
            self.event.record()

    def read(self, buffer: Tensor) -> bool | None:
        """The boolean, or `None` where the buffer has changed since."""
        if self.buffer is not buffer or self.version != buffer._version:
            return None
        if self.event is not None:
            self.event.synchronize()
        return bool(self.value)


class EuclideanCodebook(nn.Module):
    """Nearest-neighbour codebook with moving averages; all of its state is buffers.

    Args:
        dim: Width of a row.
        bins: Number of entries, V.
        decay: Share of the old average that is kept at each training step.
        kmeans_init: Start as k-means of the first training batch, else at random.
        kmeans_iters: Iterations of that k-means.
        threshold_ema_dead_code: An entry to which fewer rows per batch are assigned, on average,
            is dead and will be revived, unless it has at least half of the mean entry's; 0: never.
        pick_rows: Picks the rows on which entries start or are revived.
        shrinking_start: Let the k-means start of the first training batch shrink at the next
            updates, as that of released models does.
    """

    inited: Tensor  # [1], 1 once the entries have been initialized
    cluster_size: Tensor  # [V], rows per batch assigned to each entry
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
        self._host_copies: dict[str, HostCopy] = {}

    def __getstate__(self) -> dict[str, tp.Any]:
        return {**self.__dict__, "_host_copies": {}}  # CUDA events can be neither copied nor saved

    @torch.no_grad()
    def encode(self, rows: Tensor) -> Tensor:
        """Rows `[..., D]` to indices `[...]`, always compared in full precision."""
        with torch.autocast(rows.device.type, enabled=False):
            flat = rows.reshape(-1, rows.shape[-1])
            return nearest(flat.float(), self.embed.float()).view(rows.shape[:-1])

    def decode(self, codes: Tensor) -> Tensor:
        """Indices `[...]` to entries `[..., D]`."""
        return F.embedding(codes, self.embed)

    def forward(
        self, rows: Tensor, rng: torch.Generator | None = None, update: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Quantize, and update the entries in training mode.

        Args:
            rows: `[..., D]`; a batch without rows leaves the entries unchanged.
            rng: Draws the rows for the start and for revivals.
            update: `False` leaves the entries unchanged in training mode, too.

        Returns:
            Entries `[..., D]` and indices `[...]`, both from before this step's update.
        """
        if not (self.training and update):
            codes = self.encode(rows)
            return self.decode(codes), codes
        with torch.autocast(rows.device.type, enabled=False):
            flat = rows.detach().reshape(-1, rows.shape[-1]).to(self.embed)
            quantized, codes = self._quantize_and_update(flat, rng)
        return quantized.view(rows.shape), codes.view(rows.shape[:-1])

    def _quantize_and_update(
        self, rows: Tensor, rng: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Quantize rows `[N, D]`, and update the entries if any process has rows."""
        has_rows = self._has_rows(rows)
        if not self._flag("inited", self.inited, lambda: self.inited[0] != 0) and bool(has_rows):
            self.initialize(rows, rng)
            if self.shrinking_start:  # the centres where their sums belong
                self.embed_avg.copy_(self.embed)
        codes = nearest(rows, self.embed)
        quantized = self.decode(codes)
        if has_rows is not False:
            self._update(rows, codes, rng, has_rows)
        return quantized, codes

    def _has_rows(self, rows: Tensor) -> Tensor | bool:
        """Whether any process has rows; over several processes a tensor on the device."""
        if not is_distributed():
            return len(rows) > 0
        return sum_over_ranks(torch.full((), float(len(rows)), device=rows.device)) > 0

    def _flag(self, name: str, buffer: Tensor, compute: tp.Callable[[], Tensor]) -> bool:
        """Boolean that depends on a buffer only; the host waits only if the buffer has changed."""
        copy = self._host_copies.get(name)
        value = None if copy is None else copy.read(buffer)
        if value is None:
            value = bool(compute())
            self._host_copies[name] = HostCopy(buffer, torch.tensor(value))
        return value

    @torch.no_grad()
    def initialize(self, rows: Tensor, rng: torch.Generator | None = None) -> None:
        """Set the entries to the k-means centres of the rows `[N, D]`; at least one row."""
        self.embed.copy_(self._pick(rows, rng))
        for _ in range(self.kmeans_iters):
            counts, sums = self._statistics(rows, nearest(rows, self.embed))
            means = sums / counts.clamp(min=1)[:, None]
            self.embed.copy_(torch.where(counts[:, None] > 0, means, self.embed))
            self.cluster_size.copy_(counts)
        self.embed_avg.copy_(self.embed * self.cluster_size[:, None])
        self.inited.fill_(1)

    @torch.no_grad()
    def _update(
        self,
        rows: Tensor,
        codes: Tensor,
        rng: torch.Generator | None,
        has_rows: Tensor | bool = True,
    ) -> None:
        """Move each entry towards the rows assigned to it; revive the dead ones.

        Args:
            rows: Of this process, `[N, D]`.
            codes: Their entries, `[N]`.
            rng: Draws the rows for revivals.
            has_rows: Whether any process has rows; where not, nothing changes.
        """
        dead = self.dead_entries()
        any_dead = self._flag("any_dead", self.cluster_size, dead.any)
        counts, sums = self._statistics(rows, codes)
        weight: Tensor | float = 1 - self.decay
        if isinstance(has_rows, Tensor):
            weight = (weight * has_rows.double()).to(self.embed.dtype)
        self.cluster_size.lerp_(counts, weight)
        self.embed_avg.lerp_(sums, weight)
        total = self.cluster_size.sum()
        smooth = (self.cluster_size + LAPLACE_EPS) / (total + len(self.embed) * LAPLACE_EPS) * total
        moved = self.embed_avg / smooth[:, None]
        if isinstance(has_rows, Tensor):
            moved = torch.where(has_rows, moved, self.embed)
        self.embed.copy_(moved)
        if any_dead and bool(has_rows):
            self._revive(dead, rows, rng)
        self._host_copies["any_dead"] = HostCopy(self.cluster_size, self.dead_entries().any())

    def dead_entries(self) -> Tensor:
        """Mask `[V]` of the entries that the next training step will revive."""
        # Without the second limit, a threshold above rows per batch / V would kill all at once.
        dead = self.cluster_size < self.threshold_ema_dead_code
        return dead & (self.cluster_size < self.cluster_size.mean() / 2)

    def _revive(self, dead: Tensor, rows: Tensor, rng: torch.Generator | None) -> None:
        """Move the dead entries onto rows of the batch, with the usage of an average entry.

        All three averages are set: otherwise the next update would undo the change.
        """
        usage = self.cluster_size.mean()
        picked = self._pick(rows, rng)
        self.embed.copy_(torch.where(dead[:, None], picked, self.embed))
        self.embed_avg.copy_(torch.where(dead[:, None], picked * usage, self.embed_avg))
        self.cluster_size.copy_(torch.where(dead, usage, self.cluster_size))

    def _pick(self, rows: Tensor, rng: torch.Generator | None) -> Tensor:
        """One row per entry, `[V, D]`, the same in every process."""
        if is_distributed():
            return pick_rows_of_all_ranks(rows, len(self.embed), rng)
        return self.pick_rows(rows, len(self.embed), rng)

    def _statistics(self, rows: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Number of rows assigned to each entry, `[V]`, and their sum, `[V, D]`."""
        counts = torch.zeros_like(self.cluster_size)
        sums = torch.zeros_like(self.embed)
        bins = torch.arange(len(self.embed), device=codes.device)
        for some_codes, some_rows in zip(codes.split(MAX_ROWS), rows.split(MAX_ROWS)):
            chosen = (some_codes == bins[:, None]).to(rows)  # [V, N]
            counts += chosen.sum(dim=1)
            sums += chosen @ some_rows  # a product, since a GPU repeats it bit by bit
        return sum_over_ranks(counts), sum_over_ranks(sums)


def is_distributed() -> bool:
    """Whether this is one of several processes."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def sum_over_ranks(values: Tensor) -> Tensor:
    """Sum in place over all processes; every process has to call it."""
    if is_distributed():
        dist.all_reduce(values)
    return values


def pick_rows_of_all_ranks(rows: Tensor, num: int, rng: torch.Generator | None) -> Tensor:
    """`pick_rows` on the concatenated rows of all processes.

    Args:
        rows: Of this process, `[N, D]`; N may be 0, but not in every process.
        num: Number of rows to pick.
        rng: Draws the rows; that of the first process decides.

    Returns:
        `[num, D]`, the same in every process.
    """
    counts = torch.zeros(dist.get_world_size(), dtype=torch.long, device=rows.device)
    counts[dist.get_rank()] = len(rows)
    dist.all_reduce(counts)
    chosen = draw_picks(int(counts.sum()), num, rng).to(rows.device)
    dist.broadcast(chosen, src=0)
    own = chosen - counts[: dist.get_rank()].sum()  # indices into this process's rows
    mine = (own >= 0) & (own < len(rows))
    picked = rows.new_zeros(num, rows.shape[1])
    picked[mine] = rows[own[mine]]
    dist.all_reduce(picked)
    return picked
