"""Builders of optimizers, schedules and averages from their config nodes."""

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from audiocraft.errors import ConfigError
from audiocraft.optim.builders import (
    SCHEDULES,
    get_ema,
    get_lr_scheduler,
    get_optim_parameter_groups,
    get_optimizer,
)


class TwoRates(nn.ModuleDict):
    """A model with a separate learning rate for its embeddings."""

    def param_groups(self):
        return [
            {"params": list(self["out"].parameters())},
            {"params": list(self["emb"].parameters()), "lr": 1e-4},
        ]


@pytest.fixture
def model():
    return nn.ModuleDict({"emb": nn.Embedding(5, 4), "out": nn.Linear(4, 5)})


def optim(**changes):
    adam = {"betas": [0.9, 0.95], "weight_decay": 0.1, "eps": 1e-8}
    return OmegaConf.create({"optimizer": "adamw", "lr": 1e-2, "adam": adam} | changes)


def schedule(name, **options):
    return OmegaConf.create({"lr_scheduler": name, name or "none": options})


@pytest.mark.parametrize("name", ["adam", "adamw", "dadam"])
def test_every_optimizer_lowers_a_loss(name, model):
    optimizer = get_optimizer(get_optim_parameter_groups(model), optim(optimizer=name))
    tokens = torch.arange(5)

    def loss():
        return nn.functional.cross_entropy(model["out"](model["emb"](tokens)), tokens)

    before = loss().item()
    for _ in range(50):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < before


def test_dadam_prints_nothing(model, capsys):
    get_optimizer(get_optim_parameter_groups(model), optim(optimizer="dadam", lr=1))
    assert capsys.readouterr().out == ""


def test_frozen_parameters_are_in_no_group(model):
    model["out"].bias.requires_grad_(False)
    (group,) = get_optim_parameter_groups(model)
    assert {id(p) for p in group["params"]} == {
        id(model["emb"].weight),
        id(model["out"].weight),
    }


def test_model_can_define_two_learning_rates(model):
    optimizer = get_optimizer(get_optim_parameter_groups(TwoRates(model)), optim(lr=1e-2))
    assert [group["lr"] for group in optimizer.param_groups] == [1e-2, 1e-4]


def test_dadam_with_two_learning_rates_raises(model):
    with pytest.raises(ConfigError, match="emb_lr=null"):
        get_optimizer(get_optim_parameter_groups(TwoRates(model)), optim(optimizer="dadam"))


def test_unsupported_optimizer_lists_the_supported_ones(model):
    with pytest.raises(ConfigError, match=r"'sgd'.*adam, adamw, adamw8bit, dadam"):
        get_optimizer(get_optim_parameter_groups(model), optim(optimizer="sgd"))


@pytest.mark.parametrize("name", ["adam", "adamw", "dadam"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": -1}, r"optim\.lr is -1 but must be"),
        ({"lr": "fast"}, r"optim\.lr is 'fast'"),
        ({"adam": {"betas": [2, 0]}}, r"optim\.optimizer=\w+ with optim\.adam: Invalid beta"),
        ({"adam": {"betas": [0.9, 0.9], "speed": 3}}, r"optim\.adam: .*'speed'"),
    ],
)
def test_settings_out_of_range_raise(name, changes, message, model):
    with pytest.raises(ConfigError, match=message):
        get_optimizer(get_optim_parameter_groups(model), optim(optimizer=name, **changes))


def test_optimizer_resumes_from_a_file_without_pickled_code(model, tmp_path):
    for name in ("adamw", "dadam"):
        optimizer = get_optimizer(get_optim_parameter_groups(model), optim(optimizer=name))
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step()
        torch.save(optimizer.state_dict(), tmp_path / "optimizer.th")
        resumed = get_optimizer(get_optim_parameter_groups(model), optim(optimizer=name))
        resumed.load_state_dict(torch.load(tmp_path / "optimizer.th", weights_only=True))


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_of_the_shipped_configuration_is_built(name, model):
    cfg = OmegaConf.load("config/solver/default.yaml").schedule
    cfg = OmegaConf.merge(
        cfg,
        {
            "lr_scheduler": name,
            "step": {"step_size": 2, "gamma": 0.5},
            "exponential": {"lr_decay": 0.9},
        },
    )
    optimizer = get_optimizer(get_optim_parameter_groups(model), optim())
    assert get_lr_scheduler(optimizer, cfg, total_updates=10) is not None


def test_no_schedule_keeps_the_learning_rate(model):
    optimizer = get_optimizer(get_optim_parameter_groups(model), optim())
    assert get_lr_scheduler(optimizer, schedule(None), total_updates=10) is None


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (schedule("stairs"), r"'stairs'.*cosine"),
        (schedule("step", step_size=None, gamma=0.5), r"schedule\.step\.step_size is null"),
        (schedule("exponential", lr_decay=None), r"schedule\.exponential\.lr_decay is null"),
        (schedule("step", step_size=0, gamma=0.5), r"step_size is 0 but must be"),
        (schedule("cosine", warmup=-3), r"schedule\.cosine\.warmup is -3 but must be"),
        (schedule("cosine", warmup="long"), r"schedule\.cosine\.warmup is 'long'"),
    ],
)
def test_invalid_schedule_raises(cfg, message, model):
    optimizer = get_optimizer(get_optim_parameter_groups(model), optim())
    with pytest.raises(ConfigError, match=message):
        get_lr_scheduler(optimizer, cfg, total_updates=10)


def test_ema_is_optional(model):
    node = OmegaConf.create({"use": False, "updates": 10, "device": "auto", "decay": 0.99})
    assert get_ema(model, node) is None
    node.use = True
    ema = get_ema(model, node)
    assert ema is not None
    assert ema.updates == 10
    assert ema.state["model"].keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("decay", 2, r"optim\.ema\.decay is 2 but must be"),
        ("updates", 0, r"optim\.ema\.updates is 0 but must be"),
        ("device", "moon", r"'moon'.*Choose auto, cpu"),
    ],
)
def test_invalid_ema_setting_raises(key, value, message, model):
    node = {"use": True, "updates": 10, "device": "auto", "decay": 0.99, key: value}
    with pytest.raises(ConfigError, match=message):
        get_ema(model, OmegaConf.create(node))
