"""Samples depend only on their request, and recipes reproduce them."""

import dataclasses

import pytest
import torch

from audiocraft.errors import AudioError, ConfigError
from audiocraft.inference.recipe import Recipe
from audiocraft.inference.request import Request
from audiocraft.inference.sample_generator import (
    SampleGenerator,
    hash_waveform,
    split_into_batches,
    write_sample,
)
from audiocraft.models import MusicGen

SHORT = {"duration": 0.4, "excerpt_length": 1.5}


def checked(sample_generator, **values) -> Request:
    return sample_generator.check(Request(**(SHORT | values)))


@pytest.fixture
def requests(sample_generator, clip):
    return [
        checked(sample_generator, seed=1, text="waltz"),
        checked(sample_generator, seed=2, text="polka"),
        checked(sample_generator, seed=3, text="waltz", style=clip),
        checked(sample_generator, seed=4, style=clip),
        checked(sample_generator, seed=5, style=clip, style_detail=1),
        checked(sample_generator, seed=6),
    ]


def test_every_recipe_reproduces_its_sample_bit_for_bit(sample_generator, requests, tmp_path):
    for number, sample in enumerate(sample_generator.generate(requests, batch_size=4)):
        write_sample(tmp_path, str(number), sample)
        recipe = Recipe.load(tmp_path / f"{number}.json")
        again = sample_generator.reproduce(recipe)
        assert hash_waveform(again.wav) == recipe.waveform_sha256
        assert again.wav.equal(sample.wav)
        write_sample(tmp_path / "again", str(number), again)
        name = f"{number}.wav"
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_samples_are_the_same_in_any_batch(sample_generator, requests):
    alone = [sample.wav for sample in sample_generator.generate(requests, 1)]
    together = [sample.wav for sample in sample_generator.generate(requests, 4)]
    torch.testing.assert_close(together, alone)


def test_a_sample_equals_that_of_the_python_api(sample_generator, clip):
    request = checked(sample_generator, seed=3, text="waltz", style=clip, excerpt_start=0.0)
    (sample,) = sample_generator.generate([request])
    model: MusicGen = sample_generator.model
    model.set_generation_params(duration=0.4, cfg_coef=3.0, cfg_coef_beta=5.0)
    model.set_style_conditioner_params(eval_q=3, excerpt_length=1.5)
    part = sample_generator._load_excerpt(request)
    wavs = model.generate_with_style(["waltz"], part.wav, 32000, seed=3, excerpt_start=part.start)
    assert wavs[0].equal(sample.wav)


def test_neighbours_with_the_same_settings_share_a_batch(requests):
    sizes = [len(batch) for batch in split_into_batches(requests, 2)]
    assert sizes == [2, 1, 1, 1, 1]
    assert [len(batch) for batch in split_into_batches([requests[0]] * 5, 2)] == [2, 2, 1]
    assert list(split_into_batches([], 2)) == []


def test_progress_counts_the_seconds_of_all_samples(sample_generator, requests):
    reported: list[float] = []
    list(sample_generator.generate(requests, 2, reported.append))
    assert reported == sorted(reported)
    assert reported[-1] == pytest.approx(sum(request.duration for request in requests))


def test_generation_can_be_cancelled(sample_generator, requests):
    def stop(done: float) -> None:
        if done > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(sample_generator.generate(requests, 1, stop))
    assert len(list(sample_generator.generate(requests[:1]))) == 1  # and the model still works


def test_other_weights_are_refused(sample_generator, tiny_musicgen, requests):
    (sample,) = sample_generator.generate(requests[:1])
    with torch.no_grad():
        tiny_musicgen.lm.linears[0].weight[0, 0] += 1
    with pytest.raises(ConfigError, match="other weights"):
        SampleGenerator(tiny_musicgen).reproduce(sample.recipe)


def test_another_clip_is_refused(sample_generator, requests, clip):
    (sample,) = sample_generator.generate([requests[2]])
    with open(clip, "ab") as file:
        file.write(b"more")
    with pytest.raises(ConfigError, match="its bytes differ"):
        sample_generator.reproduce(sample.recipe)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"duration": 0}, "duration"),
        ({"style_detail": 9}, "style_detail is 9 but the bottleneck has 6"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"excerpt_length": 9}, "excerpt of 9 s .* clip of 3 s"),
        ({"extend_stride": 5}, "extend_stride"),
    ],
)
def test_unsupported_requests_are_refused(sample_generator, clip, values, message):
    with pytest.raises((ConfigError, AudioError), match=message):
        checked(sample_generator, seed=0, style=clip, **values)


def test_a_recipe_round_trips_through_json(sample_generator, requests, tmp_path):
    (sample,) = sample_generator.generate([requests[2]])
    write_sample(tmp_path, "a", sample)
    assert Recipe.load(tmp_path / "a.json") == dataclasses.replace(sample.recipe, audio="a.wav")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file"),
        ("{", "is not JSON"),
        ("[]", "is not a recipe"),
        ('{"format": 99}', "is not a recipe of this version"),
        ('{"format": 1, "request": {"seed": 1}}', "a missing or extra field"),
        ('{"format": 1, "request": {"seed": "x"}}', "seed must be a whole number"),
    ],
)
def test_a_file_that_is_not_a_recipe_is_refused(text, message, tmp_path):
    path = tmp_path / "recipe.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        Recipe.load(path)
