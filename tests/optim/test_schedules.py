"""Learning rate schedules: property-based tests."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audiocraft.optim import (
    CosineLRScheduler,
    InverseSquareRootLRScheduler,
    LinearWarmupLRScheduler,
    PolynomialDecayLRScheduler,
    schedules,
)
from audiocraft.optim.schedules import Schedule


def rates(rule, num_updates, base=1.0):
    return [rule(step, base) for step in range(num_updates)]


WARMED = [
    schedules.linear_warmup(warmup_steps=10),
    schedules.cosine(total_steps=100, warmup_steps=10),
    schedules.polynomial_decay(total_steps=100, warmup_steps=10),
    schedules.inverse_sqrt(warmup_steps=10),
]


@pytest.mark.parametrize("rule", WARMED)
def test_warmup_is_linear(rule):
    rise = torch.tensor(rates(rule, 10)).diff()
    torch.testing.assert_close(rise, torch.full_like(rise, 0.1))
    assert max(rates(rule, 100)) == pytest.approx(1.0)


@pytest.mark.parametrize("rule", WARMED[1:])
def test_rate_never_rises_after_the_warmup(rule):
    fall = torch.tensor(rates(rule, 120)[10:]).diff()
    assert (fall <= 0).all()


@given(
    total=st.integers(1, 50),
    warmup=st.integers(0, 60),
    low=st.floats(0, 1),
    base=st.floats(1e-6, 1.0),
)
def test_cosine_stays_between_its_bounds_even_if_the_run_ends_while_it_rises(
    total, warmup, low, base
):
    rule = schedules.cosine(total_steps=total, warmup_steps=warmup, lr_min_ratio=low)
    values = rates(rule, total + 20, base)
    assert all(0 <= value <= base * (1 + 1e-9) for value in values)
    assert all(value >= base * low * (1 - 1e-9) for value in values[warmup:])


def test_cosine_ends_at_its_minimum():
    rule = schedules.cosine(total_steps=30, warmup_steps=5, lr_min_ratio=0.1)
    assert rule(30, 2.0) == pytest.approx(0.2)
    assert rule(1000, 2.0) == pytest.approx(0.2)


def test_polynomial_decay_start_and_end():
    rule = schedules.polynomial_decay(
        total_steps=40, warmup_steps=4, zero_lr_warmup_steps=3, end_lr=0.01, power=2.0
    )
    assert rates(rule, 4) == [0, 0, 0, 0]
    assert rule(40, 1.0) == 0.01


def test_inverse_square_root_halves_when_the_updates_quadruple():
    rule = schedules.inverse_sqrt(warmup_steps=10)
    assert rule(399, 1.0) == pytest.approx(rule(99, 1.0) / 2)


def test_step_and_exponential_schedules_agree_at_step_ends():
    every = schedules.step(step_size=1, gamma=0.9)
    smooth = schedules.exponential(lr_decay=0.9)
    assert rates(every, 20) == rates(smooth, 20)
    assert rates(schedules.step(step_size=5, gamma=0.5), 11)[::5] == [1, 0.5, 0.25]


@pytest.fixture
def optimizer():
    def make():
        groups = [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": lr} for lr in (0.1, 0.2)]
        return torch.optim.SGD(groups)

    return make


def test_parameter_groups_keep_their_ratio(optimizer):
    optimizer = optimizer()
    schedule = Schedule(optimizer, schedules.cosine(total_steps=10, warmup_steps=3))
    for _ in range(7):
        optimizer.step()
        schedule.step()
        first, second = (group["lr"] for group in optimizer.param_groups)
        assert math.isclose(second, 2 * first)


def test_resumed_schedule_equals_an_uninterrupted_one(optimizer):
    rule = schedules.cosine(total_steps=10, warmup_steps=3)

    def follow(schedule, optimizer, num_updates):
        for _ in range(num_updates):
            optimizer.step()
            schedule.step()
        return [group["lr"] for group in optimizer.param_groups]

    whole = optimizer()
    expected = follow(Schedule(whole, rule), whole, 8)

    first, second = optimizer(), optimizer()
    stopped = Schedule(first, rule)
    follow(stopped, first, 5)
    resumed = Schedule(second, rule)
    second.load_state_dict(first.state_dict())
    resumed.load_state_dict(stopped.state_dict())
    assert follow(resumed, second, 3) == expected


def test_state_of_a_schedule_is_plain_values(optimizer, tmp_path):
    schedule = Schedule(optimizer(), schedules.linear_warmup(warmup_steps=3))
    torch.save(schedule.state_dict(), tmp_path / "state.th")
    loaded = torch.load(tmp_path / "state.th", weights_only=True)
    assert loaded == schedule.state_dict()


def test_schedulers_have_the_pytorch_interface():
    cases = [
        (LinearWarmupLRScheduler, {"warmup_steps": 4, "warmup_init_lr": 0.5}),
        (CosineLRScheduler, {"total_steps": 9, "warmup_steps": 2, "lr_min_ratio": 0.1}),
        (PolynomialDecayLRScheduler, {"warmup_steps": 2, "total_steps": 9, "power": 2.0}),
        (InverseSquareRootLRScheduler, {"warmup_steps": 3, "warmup_init_lr": 0.1}),
    ]
    rules = ["linear_warmup", "cosine", "polynomial_decay", "inverse_sqrt"]
    for (kind, kwargs), name in zip(cases, rules):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
        scheduler = kind(optimizer=optimizer, **kwargs)
        assert isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler)
        seen = []
        for _ in range(12):
            seen.append(optimizer.param_groups[0]["lr"])
            assert scheduler.get_last_lr() == [seen[-1]]
            optimizer.step()
            scheduler.step()
        assert seen == rates(getattr(schedules, name)(**kwargs), 12, base=2.0)
        assert not kwargs.keys() & scheduler.state_dict().keys()
