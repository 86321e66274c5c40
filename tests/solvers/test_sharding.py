"""What sharding refuses, and the names under which an optimizer's state travels."""

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
        ({"sharding_strategy": "hybrid"}, "sharding_strategy is 'hybrid'.*full_shard"),
        ({"buffer_dtype": "float16"}, "codebooks of the style bottleneck"),
        ({"param_dtype": "int8"}, "int8"),
    ],
)
def test_what_nobody_builds_is_refused(options, message):
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
def test_what_sharded_weights_cannot_do_is_refused(change, message):
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


def test_one_process_has_nothing_to_share():
    assert not Sharding(use=True).active
    assert not Sharding(use=True).needs_scaler


def learnt(seed: int):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.randn(5, 3)).square().sum().backward()
    optimizer.step()
    return model, optimizer


def test_an_optimizer_s_state_comes_back_by_the_names_of_parameters():
    model, optimizer = learnt(0)
    named = optimizer_state_by_name(optimizer.state_dict(), model)
    assert set(named["state"]) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert named["param_groups"][0]["lr"] == 0.1
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(
            named["state"][name]["exp_avg"], optimizer.state[parameter]["exp_avg"]
        )


def test_parts_and_whole_states_are_two_ways_to_the_same_end():
    model, optimizer = learnt(0)
    by_parts, by_whole = learnt(1), learnt(2)
    ShardedState(*by_parts, None).load_state_dict(ShardedState(model, optimizer, None).state_dict())
    whole = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    ShardedState(*by_whole, None).load_gathered(whole)
    for other_model, other_optimizer in (by_parts, by_whole):
        for ours, theirs in zip(other_model.parameters(), model.parameters()):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
            torch.testing.assert_close(
                other_optimizer.state[ours]["exp_avg_sq"], optimizer.state[theirs]["exp_avg_sq"]
            )
