import copy

import pytest
import torch
from torch import nn

from audiocraft.modules.frozen import Frozen, evaluation_mode


class User(nn.Module):
    def __init__(self):
        super().__init__()
        self.feature_extractor = Frozen(nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)))
        self.proj = nn.Linear(3, 2)

    def forward(self, x):
        return self.proj(self.feature_extractor(x))


def test_frozen_network_is_neither_saved_nor_trained():
    user = User()
    assert set(user.state_dict()) == {"proj.weight", "proj.bias"}
    assert len(list(user.parameters())) == 2


def test_frozen_network_stays_in_evaluation_mode():
    user = User().train()
    x = torch.randn(4, 3)
    torch.testing.assert_close(user(x), user(x))
    assert not user.feature_extractor.module.training


def test_no_gradient_enters_a_frozen_network():
    user = User()
    user(torch.randn(4, 3)).sum().backward()
    assert all(p.grad is None for p in user.feature_extractor.module.parameters())
    assert user.proj.weight.grad is not None


def test_copies_of_its_user_share_a_frozen_network():
    user = User()
    assert copy.deepcopy(user).feature_extractor.module is user.feature_extractor.module


def test_loader_is_called_once_and_only_when_needed():
    loads = []

    def load():
        loads.append(True)
        return nn.Linear(3, 3)

    frozen = Frozen(load)
    assert not frozen.is_loaded
    frozen(torch.zeros(1, 3))
    frozen(torch.zeros(1, 3))
    assert frozen.is_loaded
    assert len(loads) == 1


def test_frozen_network_keeps_its_precision_under_autocast():
    frozen = Frozen(nn.Linear(3, 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert frozen(torch.zeros(1, 3)).dtype == torch.float32


def test_evaluation_mode_restores_every_submodule():
    module = nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(1)))
    module.train()[1][1].eval()
    modes = [part.training for part in module.modules()]
    inside = []

    def fail():
        with evaluation_mode(module):
            inside.extend(part.training for part in module.modules())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not any(inside)
    assert [part.training for part in module.modules()] == modes
