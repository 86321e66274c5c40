"""Adam that finds its own learning rate.

Its `lr` is a factor on the rate that it finds: leave it at 1 and let a schedule lower it.

Method: Defazio and Mishchenko, 2023, https://arxiv.org/abs/2301.07733.
"""

import typing as tp

import dadaptation


class DAdaptAdam(dadaptation.DAdaptAdam):
    """D-Adaptation Adam with the weight decay of AdamW.

    Args:
        params: Parameters, or groups of them; all groups share one `lr`, or have 0.
        decouple: Decay the weights themselves (AdamW) rather than through the gradient (Adam).
        options: `lr`, `betas`, `eps`, `weight_decay`, `d0`, `growth_rate` as in `dadaptation`.
    """

    def __init__(self, params: tp.Iterable, *, decouple: bool = True, **options):
        super().__init__(params, decouple=False, **options)  # the library prints a line for True
        for group in [self.defaults, *self.param_groups]:
            group["decouple"] = decouple
