"""Replays the moving average of weights and buffers."""

import torch
from torch import nn

from audiocraft.optim.ema import ModuleDictEMA

from ..harness import adapter, assert_close


def nested(values, prefix):
    """Return the entries under `prefix/`, without the prefix."""
    return {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}


@adapter("ema")
def check(case, call):
    given = case.inputs(call)
    init = nested(given, "init/")
    num_steps = len({name.split("/")[0] for name in given if name.startswith("values")})
    width, height = init["0.weight"].shape
    module = nn.Sequential(nn.Linear(height, width), nn.BatchNorm1d(width))
    module.load_state_dict(init, strict=False)  # all but the counter of batches

    ema = ModuleDictEMA({"model": module}, **call["args"])
    for i in range(num_steps):
        module.load_state_dict(nested(given, f"values{i}/"), strict=False)
        ema.step()

    average = nested(case.outputs(call), "ema/")
    assert set(average) == {k for k, v in module.state_dict().items() if v.is_floating_point()}
    for key, expected in average.items():
        assert_close(ema.state["model"][key], expected)
    assert_close(torch.tensor(ema.count), torch.tensor(call["count"]))
