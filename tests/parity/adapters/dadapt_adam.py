"""Replays D-Adaptation Adam on a quadratic function, each step from the recorded parameters.

The learning rate grows until parameters oscillate, which amplifies rounding differences between
processors. Every step therefore starts from the recorded parameters, and its tolerance is relative
to the largest of them.
"""

import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from audiocraft.optim.dadam import DAdaptAdam

from ..harness import adapter, assert_close


@adapter("dadapt_adam")
def check(case, call):
    given, expected = case.inputs(call), case.outputs(call)
    count = sum(name.startswith("target") for name in given)
    params = [torch.nn.Parameter(given[f"p{i}"].clone()) for i in range(count)]
    options = {k: tuple(v) if k == "betas" else v for k, v in call["args"].items()}
    optimizer = DAdaptAdam(params, **options)
    group = optimizer.param_groups[0]

    path: dict[str, list] = {"loss": [], "d": [], "gsq_weighted": [], "params_each_step": []}
    for recorded in expected["params_each_step"]:
        optimizer.zero_grad()
        errors = [
            (given[f"a{i}"] * (p - given[f"target{i}"]) ** 2).sum() for i, p in enumerate(params)
        ]
        loss = 0.5 * torch.stack(errors).sum()
        loss.backward()
        optimizer.step()
        path["loss"].append(loss.detach())
        path["d"].append(torch.tensor(group["d"], dtype=torch.float64))
        path["gsq_weighted"].append(torch.tensor(group["gsq_weighted"], dtype=torch.float64))
        path["params_each_step"].append(parameters_to_vector(params).detach())
        vector_to_parameters(recorded.clone(), params)

    for name, values in path.items():
        largest = max(1.0, float(expected[name].abs().max()))
        assert_close(torch.stack(values), expected[name], atol=1e-5 * largest)
