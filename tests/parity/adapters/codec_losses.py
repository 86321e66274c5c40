"""Replays the losses of tokenizers: spectral and adversarial ones, and the balancer."""

import torch
from omegaconf import OmegaConf
from torch import nn

from audiocraft.adversarial import (
    FeatureMatchingLoss,
    get_adv_criterion,
    get_fake_criterion,
    get_real_criterion,
)
from audiocraft.losses import Balancer
from audiocraft.losses.builders import get_loss

from ..harness import adapter, assert_close

OF_THE_RECORDING = ("balancer", "step")  # arguments that only number the calls


@adapter("spectral_losses")
def check_spectral(case, call):
    args = dict(call["args"])
    name = args.pop("loss")
    loss = get_loss(name, OmegaConf.create({name: args}))
    inputs, recorded = case.inputs(call), case.outputs(call)
    x = inputs["x"].clone().requires_grad_()
    value = loss(x, inputs["y"])
    value.backward()
    assert_close(value.detach(), recorded["loss"].reshape(()))
    assert_close(x.grad, recorded["grad"])


@adapter("adversarial_losses")
def check_adversarial(case, call):
    inputs, recorded, args = case.inputs(call), case.outputs(call), call["args"]
    if "adv_loss" in args:
        kind = args["adv_loss"]
        assert_close(get_adv_criterion(kind)(inputs["fake"]), recorded["adv"])
        assert_close(get_fake_criterion(kind)(inputs["fake"]), recorded["d_fake"])
        assert_close(get_real_criterion(kind)(inputs["real"]), recorded["d_real"])
        return
    distance = {"l1": nn.L1Loss, "l2": nn.MSELoss}[args["feat_loss"]]()
    loss = FeatureMatchingLoss(distance, normalize=args["normalize"])
    count = sum(name.startswith("fake") for name in inputs)
    fake, real = ([inputs[f"{kind}{i}"] for i in range(count)] for kind in ("fake", "real"))
    assert_close(loss(fake, real), recorded["feat"])


def balanced(balancer, inputs):
    """Return the outputs of one call, by name."""
    w = inputs["w"].clone().requires_grad_()
    y = w * inputs["x"]
    losses = {
        "l1": (y - inputs["t1"]).abs().mean(),
        "l2": (y - inputs["t2"]).square().mean(),
        "l3": y.pow(4).mean(),
    }
    effective = balancer.backward(losses, y)
    return {"grad_w": w.grad, "effective_loss": effective} | balancer.metrics


@adapter("balancer")
def check_balancer(case, call):
    args = call["args"]
    balancer = Balancer(**{k: v for k, v in args.items() if k not in OF_THE_RECORDING})
    outputs = {}
    for other in case.calls:  # previous calls, in order
        same = other["args"]["balancer"] == args["balancer"]
        if same and other["args"]["step"] <= args["step"]:
            outputs = balanced(balancer, case.inputs(other))
    recorded = case.outputs(call)
    for name in recorded:
        assert_close(torch.as_tensor(outputs[name]), recorded[name])
