"""Requests: conversion and validation of their values."""

import pytest

from audiocraft.errors import ConfigError
from audiocraft.inference.request import MAX_SEED, MAX_TEXT, Request


def test_cells_of_a_table_are_converted_to_the_types_of_the_fields():
    row = {"text": " waltz ", "seed": "7", "duration": "2.5", "top_k": "0", "excerpt_start": ""}
    request = Request.from_dict(row, "row")
    assert request == Request(text="waltz", seed=7, duration=2.5, top_k=0)


def test_unambiguous_numbers_are_converted():
    row = {"text": 808, "seed": 3.0, "duration": "2", "top_k": "5.0", "style": 7}
    request = Request.from_dict(row, "row")
    assert request == Request(text="808", seed=3, duration=2.0, top_k=5, style="7")


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("half an emoji \ud83c", "half an emoji \ufffd"),
        ("caf\udcc3\udca9", "café"),  # UTF-8 read as ASCII
        ("caf\udce9", "caf\ufffd"),  # Latin-1
        ("$a$ <b> [/] %s {x} \0", "$a$ <b> [/] %s {x} \0"),
    ],
)
def test_any_text_becomes_valid_unicode(text, valid):
    assert Request(text=text, seed=0).text == valid
    valid.encode()


def test_a_blank_text_is_none():
    assert Request(text="  ", seed=0).text is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", 1.5),
        ("seed", "seven"),
        ("seed", None),
        ("seed", True),
        ("duration", float("nan")),
        ("duration", "long"),
        ("guidance", "inf"),
        ("style_detail", 2.5),
        ("text", True),
        ("style", ["a.wav"]),
        ("excerpt_start", {}),
    ],
)
def test_the_error_names_a_value_of_the_wrong_type(field, value):
    with pytest.raises(ConfigError, match=f"{field} must be "):
        Request(**{"seed": 0, field: value})


def test_an_unknown_field_lists_the_supported_ones():
    with pytest.raises(ConfigError, match=r"line 3: 'tempo' is unknown.*text, style, seed"):
        Request.from_dict({"tempo": 120, "seed": 0}, "line 3")


def test_long_texts_of_any_script_are_accepted():
    assert Request(text="🎷" * MAX_TEXT, seed=0).text == "🎷" * MAX_TEXT
    with pytest.raises(ConfigError, match=r"10,000 characters.*2,000"):
        Request(text="x" * 10_000, seed=0)


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, "99999999999999999999"])
def test_seeds_outside_the_range_of_generators_are_refused(seed):
    with pytest.raises(ConfigError, match=f"seed must be from 0 to {MAX_SEED} but is {seed}"):
        Request(seed=seed)
    assert [Request(seed=seed).seed for seed in (0, MAX_SEED)] == [0, MAX_SEED]


def test_requests_that_differ_only_in_text_and_seed_share_a_batch():
    one, other = Request(text="waltz", seed=1), Request(text="polka", seed=2)
    assert one.settings == other.settings
    assert one.settings != Request(text="waltz", seed=1, duration=5).settings
    assert one.settings != Request(text="waltz", style="a.wav", seed=1).settings


def test_the_text_weight_applies_only_with_a_style():
    assert Request(text="a", seed=1, text_weight=2).settings == Request(text="b", seed=1).settings
    styled = Request(text="a", style="a.wav", seed=1)
    assert styled.settings != Request(text="a", style="a.wav", seed=1, text_weight=2).settings
