"""Replays learning rates after each update."""

import torch

from audiocraft.optim.builders import SCHEDULES
from audiocraft.optim.schedules import Schedule

from ..harness import adapter, assert_close


@adapter("lr_schedulers")
def check(case, call):
    for recorded in case.meta["schedules"]:
        parameter = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([parameter], lr=recorded["base_lr"])
        schedule = Schedule(optimizer, SCHEDULES[recorded["name"]](**recorded["kwargs"]))
        rates = [optimizer.param_groups[0]["lr"]]
        while len(rates) < len(recorded["lr"]):
            optimizer.step()
            schedule.step()
            rates.append(optimizer.param_groups[0]["lr"])
        assert_close(rates, recorded["lr"], atol=1e-12, rtol=1e-9)
