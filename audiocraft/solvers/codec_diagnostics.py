"""Diagnostics of codec training: use of the codebooks, and warnings that name a remedy.

Perplexity of a codebook: the exponential of the entropy of its codes, between 1 (one entry is used)
and the number of entries (all are used equally often).
"""

import logging
import math
import typing as tp

import torch
from torch import Tensor

from .distributed import sum_over_processes

logger = logging.getLogger(__name__)

ACCURACY = 0.95  # of a discriminator above which the codec learns little from it
ACCURATE_UPDATES = 100  # in a row, until a warning
COLLAPSED = 0.05  # share of the entries below which the perplexity is a collapse
COUNTED = 10  # codes per entry until a perplexity is trusted
SILENT = 1e-2  # level of the estimate relative to the target's, 40 dB below it
EXPLODED = 100.0  # norm of the gradient relative to its moving average
NORM_DECAY = 0.99  # of that average, per update
SETTLED = 20  # updates until the average is trusted


class CodebookUsage:
    """Counts of the codes of a stage, and the number of revived entries.

    Args:
        num_codebooks: K.
        cardinality: V, entries per codebook.
    """

    def __init__(self, num_codebooks: int, cardinality: int):
        self.counts = torch.zeros(num_codebooks, cardinality, dtype=torch.float64)
        self.revived = torch.zeros(num_codebooks, dtype=torch.float64)

    def add(self, codes: Tensor, dead: tp.Sequence[Tensor] = ()) -> None:
        """Count codes `[B, K', F]`, K' <= K, of all processes; each of them has to call it.

        Args:
            codes: Codes of the first codebooks.
            dead: Masks `[V]` of the entries that were revived, by codebook.
        """
        counts = torch.zeros_like(self.counts, device=codes.device)
        for k, chosen in enumerate(codes.unbind(dim=1)):
            counts[k] = torch.bincount(chosen.flatten(), minlength=counts.shape[1])
        self.counts += sum_over_processes(counts).cpu()
        for k, mask in enumerate(dead):
            self.revived[k] += float(mask.sum())

    def perplexities(self) -> list[float]:
        """Perplexity of each codebook; 0 where nothing was counted."""
        return [math.exp(h) if n else 0.0 for h, n in zip(self._entropies(), self._totals())]

    def metrics(self, frame_rate: float) -> dict[str, float]:
        """Perplexity, share of used entries and revived entries of each codebook.

        `perplexity` is the mean over codebooks, `revived` the sum. `bits_per_second` is the entropy
        of the codes: the rate at which each codebook could be coded by its frequencies.
        """
        metrics: dict[str, float] = {}
        for k, perplexity in enumerate(self.perplexities()):
            used = float((self.counts[k] > 0).double().mean())
            metrics |= {f"perplexity_q{k + 1}": perplexity, f"usage_q{k + 1}": used}
            metrics[f"revived_q{k + 1}"] = float(self.revived[k])
        used = [p for p in self.perplexities() if p]
        metrics["perplexity"] = sum(used) / max(1, len(used))
        metrics["revived"] = float(self.revived.sum())
        bits = sum(self._entropies()) / math.log(2)
        return metrics | {"bits_per_second": bits * frame_rate}

    def _totals(self) -> list[float]:
        return self.counts.sum(dim=1).tolist()

    def _entropies(self) -> list[float]:
        shares = self.counts / self.counts.sum(dim=1, keepdim=True).clamp(min=1)
        return torch.special.entr(shares).sum(dim=1).tolist()

    def reset(self) -> None:
        """Start a new stage."""
        self.counts.zero_()
        self.revived.zero_()

    def state_dict(self) -> dict[str, Tensor]:
        return {"counts": self.counts.clone(), "revived": self.revived.clone()}

    def load_state_dict(self, state: tp.Mapping[str, Tensor]) -> None:
        self.counts.copy_(state["counts"])
        self.revived.copy_(state["revived"])


class CodecMonitor:
    """Warns, at most once per epoch and problem, when training goes wrong."""

    def __init__(self):
        self.accurate: dict[str, int] = {}  # updates in a row, by discriminator
        self.norms: dict[str, tuple[float, int]] = {}  # moving average, and updates so far
        self.warned: set[str] = set()

    def start_epoch(self) -> None:
        """Allow every warning once more."""
        self.warned.clear()

    def watch_update(self, metrics: tp.Mapping[str, float]) -> None:
        """Check the metrics of one update."""
        for key, value in metrics.items():
            if key.startswith("acc_"):
                self._watch_accuracy(key.removeprefix("acc_"), value)
            elif key == "grad_norm":
                self._watch_norm("codec", value, "optim.max_norm=1 or a lower optim.lr")
            elif key.startswith("d_grad_norm_"):
                name = key.removeprefix("d_grad_norm_")
                remedy = "adversarial.max_norm=1 or a lower adversarial.lr"
                self._watch_norm(f"discriminator {name}", value, remedy)

    def watch_codebooks(self, usage: CodebookUsage) -> None:
        """Check the codebooks at the end of a stage."""
        entries = usage.counts.shape[1]
        used = zip(usage.perplexities(), usage.counts.sum(dim=1).tolist())
        collapsed = [
            f"{k} ({perplexity:.1f})"
            for k, (perplexity, count) in enumerate(used, start=1)
            if count >= COUNTED * entries and perplexity < COLLAPSED * entries
        ]
        if collapsed:
            self._warn(
                "collapse",
                "Codebook collapse: the perplexity of codebook %s is below %.0f %% of its %d "
                "entries. Raise rvq.threshold_ema_dead_code (it revives unused entries), use "
                "rvq.kmeans_init=true, or a lower optim.lr.",
                ", ".join(collapsed),
                100 * COLLAPSED,
                entries,
            )

    def watch_level(self, estimate: float, target: float) -> None:
        """Check the levels (root mean square) of reconstruction and original."""
        if target > 0 and estimate < SILENT * target:
            self._warn(
                "silence",
                "Silent output: reconstructions have a level of %.1e, originals %.1e. Raise the "
                "weights of losses that depend on the waveform (losses.l1, losses.msspec), lower "
                "losses.adv, or delay the discriminators with adversarial.start.",
                estimate,
                target,
            )

    def _watch_accuracy(self, name: str, accuracy: float) -> None:
        self.accurate[name] = self.accurate.get(name, 0) + 1 if accuracy > ACCURACY else 0
        if self.accurate[name] >= ACCURATE_UPDATES:
            self._warn(
                f"accuracy {name}",
                "The discriminator %s wins: its accuracy has been above %g for %d updates, and the "
                "codec learns little from it. Lower adversarial.lr, raise adversarial.every, or "
                "delay it with adversarial.start.",
                name,
                ACCURACY,
                self.accurate[name],
            )

    def _watch_norm(self, name: str, norm: float, remedy: str) -> None:
        average, count = self.norms.get(name, (norm, 0))
        if count >= SETTLED and norm > EXPLODED * average:
            self._warn(
                f"norm {name}",
                "Exploding gradient: the norm of the gradient of the %s is %.3g, its average %.3g. "
                "Use %s.",
                name,
                norm,
                average,
                remedy,
            )
        decayed = NORM_DECAY * average + (1 - NORM_DECAY) * norm
        self.norms[name] = (decayed if count else norm, count + 1)

    def _warn(self, problem: str, message: str, *values: tp.Any) -> None:
        if problem not in self.warned:
            self.warned.add(problem)
            logger.warning(message, *values)
