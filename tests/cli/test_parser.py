"""Option names of all commands: dashes, former spellings, defaults in the help."""

import pytest

from audiocraft.cli.parser import CommandParser


@pytest.fixture
def parser():
    parser = CommandParser("fly", "Fly.", aliases={"--how-far": "--distance"})
    parser.add_argument("place", nargs="?")
    parser.add_argument("--num-wings", type=int, default=2, help="wings")
    parser.add_argument("--distance", type=float, help="km")
    parser.add_argument("--dry-run", action="store_true", help="stay")
    return parser


@pytest.mark.parametrize("spelling", ["--num-wings", "--num_wings", "--num_w"])
def test_dashes_underscores_and_prefixes_are_the_same_option(parser, spelling):
    assert parser.parse_args([spelling, "4"]).num_wings == 4
    assert parser.parse_args([f"{spelling}=4"]).num_wings == 4


def test_a_former_name_is_accepted_but_not_in_the_help(parser):
    assert parser.parse_args(["--how-far", "3"]).distance == 3
    assert parser.parse_args(["--how_far=3"]).distance == 3
    assert "how-far" not in parser.format_help()


def test_values_keep_their_underscores(parser):
    assert parser.parse_args(["--num_wings=4", "a_b"]).place == "a_b"
    assert parser.parse_args(["--", "--a_b"]).place == "--a_b"


def test_the_help_states_defaults_of_options_that_have_one(parser):
    text = parser.format_help()
    assert "wings [default: 2]" in text
    assert text.count("default") == 1
