"""D-Adaptation Adam: Adam with an automatic learning rate.

`lr` is a factor of the automatic rate: leave it at 1 and let a schedule reduce it.

Method: Defazio and Mishchenko, 2023, https://arxiv.org/abs/2301.07733.
"""

import math
import typing as tp

import dadaptation


class DAdaptAdam(dadaptation.DAdaptAdam):
    """D-Adaptation Adam with the weight decay of AdamW.

    Args:
        params: Parameters or parameter groups; the `lr` of a group must be the common one, or 0.
        lr: Factor of the automatic learning rate.
        betas: Decay of the averages of the gradient and of its square.
        eps: Added to the denominator.
        weight_decay: Weight decay.
        log_every: Number of steps between log lines; 0: no log.
        decouple: Decay the weights themselves (AdamW) instead of through the gradient (Adam).
        d0: Initial estimate of the automatic rate.
        growth_rate: Maximum factor by which the estimate grows per step.
    """

    def __init__(
        self,
        params: tp.Iterable,
        lr: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        log_every: int = 0,
        decouple: bool = True,
        d0: float = 1e-6,
        growth_rate: float = math.inf,
    ):
        # `decouple=True` would make the library print a line.
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,  # type: ignore[arg-type]
            log_every=log_every,
            decouple=False,
            d0=d0,
            growth_rate=growth_rate,
        )
        for group in [self.defaults, *self.param_groups]:
            group["decouple"] = decouple
