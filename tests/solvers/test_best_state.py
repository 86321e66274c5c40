import torch

from audiocraft.solvers.checkpoint import BestState


def test_the_lowest_metric_wins_and_is_copied():
    best, weight = BestState(), torch.zeros(2)
    assert best.update(2.0, {"w": weight})
    assert not best.update(3.0, {"w": weight + 1})
    weight += 5  # what training does next must not reach the copy
    torch.testing.assert_close(best.model["w"], torch.zeros(2))
    assert best.update(1.0, {"w": weight})
    torch.testing.assert_close(best.model["w"], torch.full((2,), 5.0))


def test_its_state_survives_a_checkpoint():
    best, other = BestState(), BestState()
    best.update(1.0, {"w": torch.ones(1)})
    other.load_state_dict(best.state_dict())
    assert not other.update(1.5, {"w": torch.zeros(1)})
    torch.testing.assert_close(other.model, best.model)
