"""Replays whole training steps of a tokenizer with a discriminator."""

import torch
from omegaconf import OmegaConf

from audiocraft.adversarial.builders import get_adversarial_losses
from audiocraft.losses.builders import get_balancer, get_loss
from audiocraft.models.encodec import EncodecModel
from audiocraft.modules.seanet import SEANetDecoder, SEANetEncoder
from audiocraft.quantization import ResidualVectorQuantizer
from audiocraft.solvers.codec_update import CodecUpdate
from audiocraft.solvers.optim_step import OptimizerStep

from ..harness import adapter, assert_close

ADVERSARIES = ("msstftd", "msd", "mpd")


def build(case):
    """Build the model and its optimizers from the recorded configuration."""
    config = case.meta["config"]
    seanet = config["seanet"]
    encoder, decoder = SEANetEncoder(**seanet), SEANetDecoder(**seanet)
    rate = config["msspec"]["sample_rate"]
    model = EncodecModel(
        encoder,
        decoder,
        ResidualVectorQuantizer(**config["rvq"]),
        frame_rate=rate / encoder.hop_length,
        sample_rate=rate,
        channels=seanet["channels"],
        causal=seanet["causal"],
    )
    model.load_state_dict(case.state("state/model/"), strict=True)
    names = [name for name in ADVERSARIES if name in config]
    adam = dict(config["adam"])
    optim = {"optimizer": "adam", "lr": adam.pop("lr"), "adam": adam}
    adversarial = config["adversarial"] | {"adversaries": names}
    cfg = OmegaConf.create(config | {"optim": optim, "adversarial": adversarial})
    adv_losses = get_adversarial_losses(cfg)
    for name in names:
        prefix = "state/adversary/" if len(names) == 1 else f"state/adversary/{name}/"
        adv_losses[name].adversary.load_state_dict(case.state(prefix), strict=True)
    weights = {name: w for name, w in config["losses"].items() if name not in ("adv", "feat")}
    losses = {name: get_loss(name, cfg) for name, weight in weights.items() if weight}
    for kind in ("adv", "feat"):
        weights |= {f"{kind}_{name}": config["losses"][kind] for name in names}
    updates = OptimizerStep(
        model,
        torch.optim.Adam(model.parameters(), **config["adam"]),
        scaler=torch.amp.GradScaler(enabled=False),
    )
    balancer = get_balancer(weights, cfg.balancer)
    return model, CodecUpdate(torch.nn.ModuleDict(losses), adv_losses, balancer, updates)


@adapter("codec_train_steps")
def check(case, call):
    model, update = build(case)
    metrics = {}
    model.train()
    steps = [other for other in case.calls if other["name"].startswith("step")]
    for step in steps:
        x = case.inputs(step)["x"]
        result = model(x)
        metrics = update.update_adversaries(result.x, x)
        metrics |= update.update_generator(result, x)
        if step["name"] == call["name"]:
            break
    recorded = case.outputs(call)
    if call in steps:
        for name in recorded:
            assert_close(torch.tensor(metrics[name]), recorded[name], atol=2e-5, rtol=2e-5)
        return
    with torch.no_grad():
        result = model.eval()(case.inputs(call)["x"])
    assert_close(result.x, recorded["estimate"], atol=1e-4)
    assert_close(result.codes, recorded["codes"])
    for number, book in enumerate(model.quantizer.codebooks):
        assert_close(book.embed, recorded[f"codebook{number}"])
