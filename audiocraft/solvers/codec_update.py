"""One update of a codec and its discriminators.

The discriminators are updated first, on the detached estimate; the generator's losses then come
from the updated ones. The balancer sets the share of each loss in the gradient; the commitment
penalty of the quantizer goes back beside it.

Method: Défossez et al., 2022, https://arxiv.org/abs/2210.13438 (section 3.4).
"""

import math
import typing as tp

from flashy.distrib import sync_model
from torch import Tensor, nn

from ..adversarial import AdversarialLoss
from ..losses import Balancer
from ..quantization import QuantizedResult
from .distributed import max_over_processes
from .optim_step import OptimizerStep

Metrics = dict[str, float]


class CodecUpdate:
    """Losses and updates of a codec.

    Args:
        losses: Losses of the waveform by name, each a function of estimate and target.
        adv_losses: Discriminators by name.
        balancer: Knows the weight of every loss; those of a discriminator are called `adv_NAME`
            and `feat_NAME`.
        updates: Steps the optimizer of the codec.
    """

    def __init__(
        self,
        losses: nn.ModuleDict,
        adv_losses: nn.ModuleDict,
        balancer: Balancer,
        updates: OptimizerStep,
    ):
        self.losses = losses
        self.adv_losses = adv_losses
        self.balancer = balancer
        self.updates = updates

    def adversaries(self) -> list[tuple[str, AdversarialLoss]]:
        """Discriminators by name."""
        return [(name, tp.cast(AdversarialLoss, part)) for name, part in self.adv_losses.items()]

    def update_adversaries(self, estimate: Tensor, target: Tensor) -> Metrics:
        """Update every discriminator once; returns losses `d_NAME` and accuracies `acc_NAME`.

        Raises:
            FloatingPointError: A loss or gradient is not finite; those weights are unchanged.
        """
        metrics, total = {}, 0.0
        for name, adversary in self.adversaries():
            update = adversary.update(estimate, target)
            metrics |= {f"d_{name}": float(update.loss), f"acc_{name}": update.accuracy}
            metrics |= {f"d_grad_norm_{name}": update.grad_norm}
            total += float(update.loss)
        return metrics | {"d_loss": total} if metrics else {}

    def generator_losses(
        self, estimate: Tensor, target: Tensor, use_adversaries: bool = True
    ) -> dict[str, Tensor]:
        """All losses of the codec by name, scalars."""
        losses = {}
        for name, adversary in self.adversaries() if use_adversaries else ():
            adv, feat = adversary(estimate, target)
            losses |= {f"adv_{name}": adv, f"feat_{name}": feat}
        losses = {name: loss for name, loss in losses.items() if self.balancer.weights[name]}
        return losses | {name: loss(estimate, target) for name, loss in self.losses.items()}

    def update_generator(
        self, result: QuantizedResult, target: Tensor, use_adversaries: bool = True
    ) -> Metrics:
        """Update the codec once.

        Args:
            result: Of the codec in training mode.
            target: Waveforms, `[B, C, T]`.
            use_adversaries: Also use the losses of the discriminators.

        Raises:
            FloatingPointError: A loss or gradient is not finite; the weights are unchanged.
        """
        losses = self.generator_losses(result.x, target, use_adversaries)
        values: Metrics = {name: float(loss.detach()) for name, loss in losses.items()}
        values["penalty"] = float(result.penalty.detach())
        check_finite(values)
        if result.penalty.requires_grad:
            result.penalty.backward(retain_graph=True)
        effective = self.balancer.backward(losses, result.x)
        sync_model(self.updates.model)
        check_finite({"grad_norm": gradient_norm(self.updates.model)})
        values |= {name: float(value) for name, value in self.updates.step().items()}
        return values | {"g_loss": float(effective)} | self.balancer.metrics


def gradient_norm(model: nn.Module) -> float:
    """Norm of the gradients of all parameters."""
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    return float(nn.utils.get_total_norm(grads))


def check_finite(values: tp.Mapping[str, float]) -> None:
    """Raise in every process if a value of any is not finite; all of them have to call it.

    Raises:
        FloatingPointError: Names the values of this process that are not finite.
    """
    wrong = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
    if any(max_over_processes(len(wrong))):
        raise FloatingPointError(", ".join(wrong) or "loss in another process is not finite")
