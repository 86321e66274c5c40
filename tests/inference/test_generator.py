"""A piece depends on its request alone, and its recipe makes it again."""

import dataclasses

import pytest
import torch

from audiocraft.errors import AudioError, ConfigError
from audiocraft.inference.generator import Maker, batches_of, hash_wave, write_piece
from audiocraft.inference.recipe import Recipe
from audiocraft.inference.request import Request
from audiocraft.models import MusicGen

SHORT = {"duration": 0.4, "excerpt_length": 1.5}


def checked(maker, **values) -> Request:
    return maker.check(Request(**(SHORT | values)))


@pytest.fixture
def requests(maker, clip):
    return [
        checked(maker, seed=1, text="waltz"),
        checked(maker, seed=2, text="polka"),
        checked(maker, seed=3, text="waltz", style=clip),
        checked(maker, seed=4, style=clip),
        checked(maker, seed=5, style=clip, style_detail=1),
        checked(maker, seed=6),
    ]


def test_every_recipe_makes_its_piece_again_bit_for_bit(maker, requests, tmp_path):
    for number, piece in enumerate(maker.make(requests, batch_size=4)):
        write_piece(tmp_path, str(number), piece)
        recipe = Recipe.load(tmp_path / f"{number}.json")
        again = maker.make_again(recipe)
        assert hash_wave(again.wav) == recipe.waveform_sha256
        assert again.wav.equal(piece.wav)
        write_piece(tmp_path / "again", str(number), again)
        name = f"{number}.wav"
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_pieces_are_the_same_in_any_batch(maker, requests):
    alone = [piece.wav for piece in maker.make(requests, 1)]
    together = [piece.wav for piece in maker.make(requests, 4)]
    torch.testing.assert_close(together, alone)


def test_a_piece_is_that_of_the_models_own_method(maker, clip):
    request = checked(maker, seed=3, text="waltz", style=clip, excerpt_start=0.0)
    (piece,) = maker.make([request])
    model: MusicGen = maker.model
    model.set_generation_params(duration=0.4, cfg_coef=3.0, cfg_coef_beta=5.0)
    model.set_style_conditioner_params(eval_q=3, excerpt_length=1.5)
    part = maker._clip(request)
    wavs = model.generate_with_style(["waltz"], part.wav, 32000, seed=3, excerpt_start=part.start)
    assert wavs[0].equal(piece.wav)


def test_neighbours_with_the_same_settings_share_a_batch(requests):
    sizes = [len(batch) for batch in batches_of(requests, 2)]
    assert sizes == [2, 1, 1, 1, 1]
    assert [len(batch) for batch in batches_of([requests[0]] * 5, 2)] == [2, 2, 1]
    assert list(batches_of([], 2)) == []


def test_progress_counts_the_seconds_of_all(maker, requests):
    told: list[float] = []
    list(maker.make(requests, 2, told.append))
    assert told == sorted(told)
    assert told[-1] == pytest.approx(sum(request.duration for request in requests))


def test_work_can_be_called_off(maker, requests):
    def stop(done: float) -> None:
        if done > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(maker.make(requests, 1, stop))
    assert len(list(maker.make(requests[:1]))) == 1  # and the model still works


def test_other_weights_are_refused(maker, tiny_musicgen, requests):
    (piece,) = maker.make(requests[:1])
    with torch.no_grad():
        tiny_musicgen.lm.linears[0].weight[0, 0] += 1
    with pytest.raises(ConfigError, match="other weights"):
        Maker(tiny_musicgen).make_again(piece.recipe)


def test_another_clip_is_refused(maker, requests, clip):
    (piece,) = maker.make([requests[2]])
    with open(clip, "ab") as file:
        file.write(b"more")
    with pytest.raises(ConfigError, match="its bytes differ"):
        maker.make_again(piece.recipe)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"duration": 0}, "duration must be more than 0"),
        ({"style_detail": 9}, "style_detail is 9 but the bottleneck has 6"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"excerpt_length": 9}, "excerpt of 9 s .* clip of 3 s"),
        ({"extend_stride": 5}, "extend_stride is 5.0 s but a window lasts 2.0 s"),
    ],
)
def test_what_the_model_cannot_do_is_told_before_it_starts(maker, clip, values, message):
    with pytest.raises((ConfigError, AudioError), match=message):
        checked(maker, seed=0, style=clip, **values)


def test_a_recipe_survives_the_way_through_json(maker, requests, tmp_path):
    (piece,) = maker.make([requests[2]])
    write_piece(tmp_path, "a", piece)
    assert Recipe.load(tmp_path / "a.json") == dataclasses.replace(piece.recipe, audio="a.wav")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file"),
        ("{", "is no JSON"),
        ("[]", "is no recipe"),
        ('{"format": 99}', "is no recipe of this version"),
        ('{"format": 1, "request": {"seed": 1}}', "a field too many or few"),
        ('{"format": 1, "request": {"seed": "x"}}', "seed must be a whole number"),
    ],
)
def test_a_file_that_is_no_recipe_says_what_is_wrong(text, message, tmp_path):
    path = tmp_path / "recipe.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        Recipe.load(path)
