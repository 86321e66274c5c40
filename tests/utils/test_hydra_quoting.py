"""Quoting for Hydra's grammar: quoted values are parsed to the original."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from audiocraft.utils.hydra_quoting import override, quoted

NAMES = [
    *("Jürgen", "музыка", "My Drive (1)", "a=b", "x,y", "it's", "#1", "100%", "", " ", "a b"),
    *('say "hi"', r"C:\music", r"end\\", r"\'", "${x}", r"\${x}", r"\\${x}", "$x", "[1]"),
    *("null", "True", "1e5", "0x10", "nan", "line\nbreak", "tab\t", "🎵", "a/b-c_d.e", "{a: 1}"),
    *("1_000", "a:b", "*", "?", "!x", "@", "&", ";", "`x`", "-1", "+1", "inf", "...", "/", "~/x"),
    *("//sig/x", "/data/egs"),
]
PARSER = OverridesParser.create()


def read_back(text: str):
    """The value of the key after an override."""
    return OmegaConf.create({"x": "wrong", "key": PARSER.parse_override(text).value()}).key


@pytest.mark.parametrize("name", NAMES)
def test_name_round_trip(name):
    for text in (name, f"/data/{name}/egs", f"{name}/", f"{name}{name}"):
        assert read_back(override("key", text)) == text


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_text_round_trip(text):
    assert read_back(override("key", text)) == text


@given(st.text(alphabet="\\'${}\" x"))
def test_escapes_round_trip(text):
    assert read_back(override("key", text)) == text


@pytest.mark.parametrize("value", [None, True, 3, -0.5, 1e-5, ["a b", 1, None], {"a": "ü", "b": 2}])
def test_values_of_other_types_round_trip(value):
    assert read_back(override("key", value)) == value


def test_ordinary_paths_are_not_quoted():
    assert override("datasource.train", "/data/egs/train") == "datasource.train=/data/egs/train"
    assert quoted("musicgen/debug") == "musicgen/debug"


def test_unsupported_values_raise():
    with pytest.raises(TypeError, match="override"):
        quoted(object())
