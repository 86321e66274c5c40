"""The public API: shapes, seeds, broadcasting, long pieces, and clear refusals."""

import re

import numpy as np
import pytest
import torch

from audiocraft.data.conditions import ConditioningAttributes
from audiocraft.models.generation.decoding import generate_tokens
from audiocraft.modules.conditioners import select_excerpt_start
from audiocraft.modules.sampling import Sampling

RATE = 32000


def clip(seconds: float, seed: int = 0, channels: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(channels, int(seconds * RATE), generator=generator)


def dice(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_the_duration_is_what_was_asked_for(tiny_musicgen):
    wav, tokens = tiny_musicgen.generate(["calm piano", None], return_tokens=True, seed=1)
    assert tokens.shape == (2, 4, 20)
    assert wav.shape == (2, 1, 20 * 640)
    assert torch.isfinite(wav).all()
    assert tokens.min() >= 0
    assert tokens.max() < 400


# Chance.


def test_the_same_seed_gives_the_same_music_and_another_another(tiny_musicgen):
    first, again, other = (
        tiny_musicgen.generate(["techno"], return_tokens=True, seed=seed)[1] for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_without_a_seed_the_music_is_another_each_time(tiny_musicgen):
    first, second = (tiny_musicgen.generate(["x"], return_tokens=True)[1] for _ in range(2))
    assert not torch.equal(first, second)


def test_generators_are_the_dice_that_seeds_stand_for(tiny_musicgen):
    texts, sounds = ["piano", None], [clip(2.0), None]
    seeded = tiny_musicgen.generate_with_style(
        texts, sounds, RATE, return_tokens=True, seed=[5, 9]
    )[1]
    thrown = tiny_musicgen.generate_with_style(
        texts, sounds, RATE, return_tokens=True, generators=dice(5, 9)
    )[1]
    assert torch.equal(seeded, thrown)


def test_a_generator_goes_on_from_call_to_call(tiny_musicgen):
    generators = dice(5)
    first, second = (
        tiny_musicgen.generate(["x"], return_tokens=True, generators=generators)[1]
        for _ in range(2)
    )
    assert not torch.equal(first, second)


def test_a_sample_is_the_same_alone_and_in_a_batch(tiny_musicgen):
    texts, clips = ["piano", None, "drums and bass"], [clip(1.6, 1), clip(2.5, 2), None]
    together = tiny_musicgen.generate_with_style(
        texts, clips, RATE, return_tokens=True, seed=[7, 8, 9]
    )[1]
    for i, (text, sound) in enumerate(zip(texts, clips)):
        alone = tiny_musicgen.generate_with_style(
            [text], [sound], RATE, return_tokens=True, seed=[7 + i]
        )[1]
        assert torch.equal(alone[0], together[i]), i


def test_a_seed_counts_up_from_the_first_sample(tiny_musicgen):
    both = tiny_musicgen.generate_unconditional(2, return_tokens=True, seed=5)[1]
    second = tiny_musicgen.generate_unconditional(1, return_tokens=True, seed=6)[1]
    assert torch.equal(both[1], second[0])


def test_greedy_music_needs_no_seed(tiny_musicgen):
    tiny_musicgen.set_generation_params(use_sampling=False, duration=0.2)
    first, second = (
        tiny_musicgen.generate(["x"], return_tokens=True, seed=seed)[1] for seed in (1, 2)
    )
    assert torch.equal(first, second)


# Texts and clips.


def test_one_text_goes_with_all_clips_and_one_clip_with_all_texts(tiny_musicgen):
    sound = clip(2.0)
    texts = tiny_musicgen.generate_with_style(["a", "b"], sound, RATE, seed=1)
    clips = tiny_musicgen.generate_with_chroma(
        descriptions=["a"],
        melody_wavs=sound[None].expand(3, -1, -1),
        melody_sample_rate=RATE,
        seed=1,
    )
    assert len(texts) == 2
    assert len(clips) == 3


def test_a_clip_that_is_none_is_music_from_text_alone(tiny_musicgen):
    with_none = tiny_musicgen.generate_with_style(["a"], [None], RATE, return_tokens=True, seed=1)
    text_alone = tiny_musicgen.generate(["a"], return_tokens=True, seed=1)
    assert torch.equal(with_none[1], text_alone[1])


def test_the_start_of_the_excerpt_may_be_chosen_and_matters(tiny_musicgen):
    sound = torch.cat([torch.zeros(1, RATE * 2), clip(2.0)], dim=1)

    def tokens(start):
        return tiny_musicgen.generate_with_style(
            [None], sound, RATE, return_tokens=True, seed=1, excerpt_start=start
        )[1]

    assert torch.equal(tokens(2.2), tokens(2.2))
    assert not torch.equal(tokens(0.0), tokens(2.2))
    assert torch.equal(tokens([2.2]), tokens(2.2))


def test_the_start_that_is_not_chosen_is_drawn_from_the_seed(tiny_musicgen):
    first, again, other = (
        tiny_musicgen.generate_with_style(
            [None], clip(4.0), RATE, return_tokens=True, seed=seed, excerpt_start=start
        )[1]
        for seed, start in ((1, None), (1, select_excerpt_start(4.0, 1.5, 1)), (1, 0.0))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_clip_at_another_rate_and_in_stereo_is_converted(tiny_musicgen):
    sound = clip(2.0, channels=2)
    wav = tiny_musicgen.generate_with_style([None], sound, 24000, seed=1)
    assert wav.shape == (1, 1, 20 * 640)


# Beginnings and long pieces.


def test_a_continuation_starts_with_its_prompt(tiny_musicgen):
    prompt = clip(0.2)
    codes, _ = tiny_musicgen.compression_model.encode(prompt[None])
    tokens = tiny_musicgen.generate_continuation(prompt, RATE, return_tokens=True, seed=1)[1]
    assert torch.equal(tokens[..., : codes.shape[-1]], codes)
    assert tokens.shape[-1] == 20


def test_each_prompt_has_its_text_or_all_have_one(tiny_musicgen):
    prompts = torch.stack([clip(0.2, 1), clip(0.2, 2)])
    alone = [
        tiny_musicgen.generate_continuation(prompt, RATE, ["a"], return_tokens=True, seed=3 + i)[1]
        for i, prompt in enumerate(prompts)
    ]
    for texts in (["a"], ["a", "a"]):
        both = tiny_musicgen.generate_continuation(prompts, RATE, texts, return_tokens=True, seed=3)
        assert torch.equal(both[1], torch.cat(alone))


def test_a_long_piece_starts_with_what_one_window_gives(tiny_musicgen):
    tiny_musicgen.set_generation_params(duration=2.0)
    window = tiny_musicgen.generate(["waltz"], return_tokens=True, seed=2)[1]
    tiny_musicgen.set_generation_params(duration=3.3, extend_stride=0.5)
    long = tiny_musicgen.generate(["waltz"], return_tokens=True, seed=2)[1]
    assert long.shape[-1] == 165
    assert torch.equal(long[..., :100], window)


def test_windows_overlap_by_what_the_stride_leaves(tiny_musicgen):
    """The second window is a continuation of the end of the first."""
    tiny_musicgen.set_generation_params(use_sampling=False, duration=2.6, extend_stride=1.0)
    long = tiny_musicgen.generate([None], return_tokens=True)[1]
    lm = tiny_musicgen.lm
    nothing = ConditioningAttributes(text={"description": None})
    conditions = lm.condition_provider(lm.condition_provider.prepare([nothing]))
    greedy = Sampling(temperature=0)
    sequel = generate_tokens(
        lm, conditions, max_gen_len=80, prompt=long[..., 50:100], sampling=greedy
    )
    assert torch.equal(sequel, long[..., 50:])


def test_the_style_of_a_long_piece_is_heard_once(tiny_musicgen, monkeypatch):
    feature_extractor = tiny_musicgen.style_conditioner.feature_extractor
    heard = []
    features = feature_extractor.features
    monkeypatch.setattr(
        feature_extractor, "features", lambda wav: heard.append(wav) or features(wav)
    )
    tiny_musicgen.set_generation_params(duration=4.5, extend_stride=1.0)
    wav = tiny_musicgen.generate_with_style([None], clip(3.0), RATE, seed=1)
    assert wav.shape[-1] == 225 * 640
    assert len(heard) == 1


@pytest.mark.parametrize("seconds", [2.0, 18.0, 30.0, 60.0])
def test_windows_of_any_length_have_a_stride_that_fits(tiny_musicgen, seconds):
    tiny_musicgen.max_duration = seconds
    tiny_musicgen.set_generation_params()
    assert tiny_musicgen.generation_params.extend_stride == pytest.approx(0.6 * seconds)
    assert tiny_musicgen.generation_params.duration == 30.0


def test_progress_is_reported_to_the_end(tiny_musicgen):
    seen = []
    tiny_musicgen.set_custom_progress_callback(lambda done, total: seen.append((done, total)))
    tiny_musicgen.generate_unconditional(1, seed=0)
    assert seen == sorted(seen)
    assert seen[-1] == (20, 20)
    seen.clear()
    tiny_musicgen.generate(["a text of some words", None], seed=0)  # computed apart
    assert seen == sorted(seen)
    assert seen[-1] == (40, 40)
    seen.clear()
    tiny_musicgen.set_custom_progress_callback(None)
    tiny_musicgen.generate_unconditional(1, seed=0)
    assert seen == []


def test_a_progress_bar_is_drawn_where_it_is_asked_for(tiny_musicgen, capsys):
    tiny_musicgen.generate_unconditional(1, seed=0)
    assert capsys.readouterr().err == ""
    tiny_musicgen.generate_unconditional(1, progress=True, seed=0)
    assert "20/20" in capsys.readouterr().err


# What cannot be done.


def test_a_clip_shorter_than_the_excerpt_names_both_lengths(tiny_musicgen):
    with pytest.raises(ValueError, match=r"of 1\.5 s does not fit in a clip of 1 s"):
        tiny_musicgen.generate_with_style([None], clip(1.0), RATE)


def test_a_model_without_a_listener_says_which_one_has_it(tiny_musicgen):
    del tiny_musicgen.lm.condition_provider.conditioners["self_wav"]
    for call in (
        lambda: tiny_musicgen.generate_with_style(["a"], clip(2), RATE),
        lambda: tiny_musicgen.set_style_conditioner_params(),
    ):
        with pytest.raises(ValueError, match=r"tiny has no style conditioner.*musicgen-style"):
            call()


def params(**values):
    return lambda m: m.set_generation_params(**values)


def style_params(**values):
    return lambda m: m.set_style_conditioner_params(**values)


def in_style(texts, clips, rate=RATE, **options):
    return lambda m: m.generate_with_style(texts, clips, rate, **options)


def going_on(prompt, rate=RATE, *texts):
    return lambda m: m.generate_continuation(prompt, rate, *texts)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.generate("piano"), "'piano': put the sentence, or None, in brackets"),
        (lambda m: m.generate(None), "descriptions must be a list but is None"),
        (lambda m: m.generate([]), "descriptions is empty"),
        (lambda m: m.generate([3]), "a text or None but is 3"),
        (lambda m: m.generate_unconditional(0), "num_samples must be a number of at least 1"),
        (lambda m: m.generate_unconditional(1.5), "is 1.5"),
        (lambda m: m.generate(["a"], seed=[1, 2]), "2 seeds were given for 1 samples"),
        (lambda m: m.generate(["a"], seed=["x"]), "whole number of 64 bits but is 'x'"),
        (lambda m: m.generate(["a"], seed=2**70), "whole number of 64 bits"),
        (lambda m: m.generate(["a"], seed=1, generators=dice(1)), "both given"),
        (lambda m: m.generate(["a"], generators=dice(1, 2)), "2 generators were given for 1"),
        (lambda m: m.generate(["a", "b"], generators=dice(1) * 2), "share a generator"),
        (lambda m: m.generate(["a", "b"], generators=dice(1)[0]), "1 generators were given for 2"),
        (params(duration=0), "duration must be more than 0 seconds but is 0"),
        (params(duration=-1), "but is -1"),
        (params(duration="8"), "duration must be more than 0 seconds but is '8'"),
        (params(temperature=None), "temperature must be at least 0 but is None"),
        (params(top_p="0.9"), "but is '0.9'"),
        (params(extend_stride="1"), "but is '1'"),
        (style_params(eval_q=2.5), "eval_q is 2.5"),
        (style_params(excerpt_length="3"), "a number of seconds but is '3'"),
        (in_style(["a"], clip(2), excerpt_start="1"), "a second of the clip but is '1'"),
        (params(duration=float("nan")), "but is nan"),
        (params(duration=float("inf")), "but is inf"),
        (params(temperature=-1), "temperature must be at least 0 but is -1"),
        (params(top_k=-5), "top_k must be at least 0 (0 is off), a whole number, but is -5"),
        (params(top_k=2.5), "but is 2.5"),
        (params(top_p=1.5), "top_p must lie between 0 (off) and 1 but is 1.5"),
        (params(cfg_coef=float("nan")), "cfg_coef must be a number but is nan"),
        (params(cfg_coef_beta=float("inf")), "cfg_coef_beta must be a number but is inf"),
        (params(extend_stride=2.0), "extend_stride is 2.0 s but a window lasts 2.0 s"),
        (params(extend_stride=0), "extend_stride must be more than 0 seconds but is 0"),
        (style_params(eval_q=7), "eval_q is 7 but the bottleneck has 6 codebooks. Choose 1 to 6"),
        (style_params(eval_q=0), "eval_q is 0"),
        (style_params(excerpt_length=0), "excerpt_length is 0 s"),
        (style_params(excerpt_length=-1.5), "excerpt_length is -1.5 s"),
        (style_params(ds_factor=0), "ds_factor must be a whole number, at least 1, but is 0"),
        (style_params(encodec_n_q=2), "encodec_n_q is 2 but MusicnnFeatures listens"),
        (in_style(["a"] * 2, [clip(2)] * 3), "2 descriptions do not go with 3 clips"),
        (in_style(["a"], []), "style_wavs is empty"),
        (in_style(["a"], clip(2) * float("nan")), "holds NaN"),
        (in_style(["a"], torch.zeros(5)), "must be [B, C, T] or [C, T] but is [5]"),
        (in_style(["a"], [torch.zeros(1, 1, 5)]), "must be [C, T] but is [1, 1, 5]"),
        (in_style(["a"], torch.zeros(1, 0)), "must be [C, T] but is [1, 0]"),
        (in_style(["a"], torch.zeros(0, 5)), "has 0 channels"),
        (in_style(["a"], clip(2, channels=9)), "has 9 channels"),
        (in_style(["a"], clip(2).mul(100).short()), "holds torch.int16 samples"),
        (in_style(["a"], [np.zeros((1, 5))]), "is a ndarray"),
        (in_style(["a"], clip(2), 0), "style_sample_rate must be a whole number"),
        (in_style(["a"], clip(2), 44.1), "but is 44.1"),
        (in_style(["a"], clip(2), excerpt_start=[0.0, 0.0]), "2 values of excerpt_start"),
        (in_style(["a"], clip(2), excerpt_start=-0.5), "but is -0.5"),
        (in_style(["a"], clip(2), excerpt_start=1.9), "does not fit"),
        (going_on(clip(1.0)), "shorter prompt or a longer duration"),
        (going_on(clip(0.2) * float("inf")), "NaN or infinite"),
        (going_on([clip(0.2)]), "prompt must be a tensor [B, C, T] or [C, T] but is a list"),
        (going_on(clip(0.2), -1), "prompt_sample_rate must be a whole number"),
        (going_on(clip(0.2)[0]), "prompt must be [B, C, T] or [C, T] but is [6400]"),
        (going_on(clip(0.2).expand(2, 1, -1), RATE, ["a"] * 3), "3 descriptions do not go with 2"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_value(tiny_musicgen, call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call(tiny_musicgen)


def test_less_than_a_frame_is_nothing(tiny_musicgen):
    tiny_musicgen.set_generation_params(duration=0.01)
    with pytest.raises(ValueError, match=r"0\.01 s, less than one frame of 0\.02 s"):
        tiny_musicgen.generate([None])


def test_a_prompt_as_long_as_a_window_says_what_a_window_holds(tiny_musicgen):
    tiny_musicgen.set_generation_params(duration=5.0)
    with pytest.raises(ValueError, match=r"lasts 2\.50 s .* in 2\.00 s\. Give only its end"):
        tiny_musicgen.generate_continuation(clip(2.5), RATE)
