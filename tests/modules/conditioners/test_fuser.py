import pytest
import torch

from audiocraft.errors import ConfigError
from audiocraft.modules.conditioners import Condition, ConditionFuser


def condition(num_steps, value):
    return Condition(torch.full((2, num_steps, 4), value), torch.ones(2, num_steps).bool())


def test_texts_are_prepended_after_clips_for_any_order_of_the_configuration():
    conditions = {"description": condition(2, 1.0), "self_wav": condition(3, 2.0)}
    for order in (["self_wav", "description"], ["description", "self_wav"]):
        fused = ConditionFuser({"prepend": order})(torch.zeros(2, 5, 4), conditions)
        assert fused.num_prefix == 5
        assert fused.x[0, :, 0].tolist() == [2, 2, 2, 1, 1, 0, 0, 0, 0, 0]


def test_prefixes_are_prepended_once():
    fuser = ConditionFuser({"prepend": ["a"]})
    x = torch.randn(2, 6, 4)
    conditions = {"a": condition(3, 1.0)}

    whole = fuser(x, conditions)
    first = fuser(x[:, :2], conditions)
    rest = fuser(x[:, 2:], conditions, offset=5)

    assert torch.equal(torch.cat([first.x, rest.x], dim=1), whole.x)
    assert (first.num_prefix, rest.num_prefix) == (3, 0)


def test_sum_does_not_change_its_input():
    x = torch.zeros(2, 6, 4)
    fused = ConditionFuser({"sum": ["a"]})(x, {"a": condition(1, 1.0)})
    assert not x.any()
    assert fused.x.eq(1).all()


def test_ignored_conditions_have_no_effect():
    x = torch.randn(2, 6, 4)
    fused = ConditionFuser({"ignore": ["a"]})(x, {"a": condition(1, 1.0)})
    assert torch.equal(fused.x, x)
    assert fused.cross is None


def test_condition_without_fuse_method_raises():
    with pytest.raises(ConfigError, match="'genre'"):
        ConditionFuser({"cross": ["description"]})(torch.zeros(2, 1, 4), {"genre": condition(1, 1)})


def test_unknown_fuse_method_raises():
    with pytest.raises(ConfigError, match=r"fuser\.append"):
        ConditionFuser({"append": ["a"]})


def test_two_fuse_methods_for_one_condition_raise():
    with pytest.raises(ConfigError, match="both"):
        ConditionFuser({"cross": ["a"], "prepend": ["a"]})


def test_string_instead_of_list_raises():
    with pytest.raises(
        ConfigError, match=r"fuser.prepend is 'self_wav'. Give a list: \[self_wav\]"
    ):
        ConditionFuser({"prepend": "self_wav"})


def test_sum_of_different_lengths_raises():
    fuser = ConditionFuser({"sum": ["a"]})
    with pytest.raises(ConfigError, match="'a' has 3 steps and cannot be summed with 6"):
        fuser(torch.zeros(2, 6, 4), {"a": condition(3, 1.0)})
