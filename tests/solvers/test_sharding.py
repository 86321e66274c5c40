"""Sharding: unsupported settings, and the names of an optimizer's state."""

import pytest
import torch
from omegaconf import OmegaConf

from audiocraft.errors import ConfigError
from audiocraft.solvers.sharding import (
    ShardedState,
    Sharding,
    check_sharding,
    optimizer_state_by_name,
)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sharding_strategy": "hybrid"}, "sharding_strategy='hybrid'.*full_shard"),
        ({"buffer_dtype": "float16"}, "codebooks of the style bottleneck"),
        ({"param_dtype": "int8"}, "int8"),
    ],
)
def test_unsupported_settings_raise(options, message):
    with pytest.raises(ConfigError, match=message):
        Sharding(use=True, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optim": {"optimizer": "dadam"}}, "optim.optimizer=adamw"),
        ({"optim": {"ema": {"use": True, "device": "cpu"}}}, "optim.ema.device=auto"),
        ({"autocast": True}, "autocast=false"),
    ],
)
def test_settings_that_sharding_does_not_support_raise(change, message):
    cfg = OmegaConf.create(
        {
            "device": "cuda",
            "autocast": False,
            "optim": {"optimizer": "adamw", "ema": {"use": False, "device": "auto"}},
        }
    )
    check_sharding(cfg)
    with pytest.raises(ConfigError, match=message):
        check_sharding(OmegaConf.merge(cfg, change))


def test_single_process_does_not_shard():
    assert not Sharding(use=True).active
    assert not Sharding(use=True).needs_scaler


def trained(seed: int):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.randn(5, 3)).square().sum().backward()
    optimizer.step()
    return model, optimizer


def test_optimizer_state_is_restored_by_parameter_names():
    model, optimizer = trained(0)
    named = optimizer_state_by_name(optimizer.state_dict(), model)
    assert set(named["state"]) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert named["param_groups"][0]["lr"] == 0.1
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(
            named["state"][name]["exp_avg"], optimizer.state[parameter]["exp_avg"]
        )


def test_sharded_and_gathered_states_load_alike():
    model, optimizer = trained(0)
    by_parts, by_whole = trained(1), trained(2)
    ShardedState(*by_parts, None).load_state_dict(ShardedState(model, optimizer, None).state_dict())
    whole = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    ShardedState(*by_whole, None).load_gathered(whole)
    for other_model, other_optimizer in (by_parts, by_whole):
        for ours, theirs in zip(other_model.parameters(), model.parameters()):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
            torch.testing.assert_close(
                other_optimizer.state[ours]["exp_avg_sq"], optimizer.state[theirs]["exp_avg_sq"]
            )
