"""MusicGen API: shapes, seeds, broadcasting, extended generation and errors."""

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


def generators_of(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_duration_is_as_requested(tiny_musicgen):
    wav, tokens = tiny_musicgen.generate(["calm piano", None], return_tokens=True, seed=1)
    assert tokens.shape == (2, 4, 20)
    assert wav.shape == (2, 1, 20 * 640)
    assert torch.isfinite(wav).all()
    assert tokens.min() >= 0
    assert tokens.max() < 400


# Seeds and generators.


def test_output_depends_on_the_seed(tiny_musicgen):
    first, again, other = (
        tiny_musicgen.generate(["techno"], return_tokens=True, seed=seed)[1] for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_output_differs_without_a_seed(tiny_musicgen):
    first, second = (tiny_musicgen.generate(["x"], return_tokens=True)[1] for _ in range(2))
    assert not torch.equal(first, second)


def test_generators_and_seeds_give_the_same_codes(tiny_musicgen):
    texts, sounds = ["piano", None], [clip(2.0), None]
    seeded = tiny_musicgen.generate_with_style(
        texts, sounds, RATE, return_tokens=True, seed=[5, 9]
    )[1]
    drawn = tiny_musicgen.generate_with_style(
        texts, sounds, RATE, return_tokens=True, generators=generators_of(5, 9)
    )[1]
    assert torch.equal(seeded, drawn)


def test_generator_state_advances_between_calls(tiny_musicgen):
    generators = generators_of(5)
    first, second = (
        tiny_musicgen.generate(["x"], return_tokens=True, generators=generators)[1]
        for _ in range(2)
    )
    assert not torch.equal(first, second)


def test_sample_is_the_same_alone_and_in_a_batch(tiny_musicgen):
    texts, clips = ["piano", None, "drums and bass"], [clip(1.6, 1), clip(2.5, 2), None]
    together = tiny_musicgen.generate_with_style(
        texts, clips, RATE, return_tokens=True, seed=[7, 8, 9]
    )[1]
    for i, (text, sound) in enumerate(zip(texts, clips)):
        alone = tiny_musicgen.generate_with_style(
            [text], [sound], RATE, return_tokens=True, seed=[7 + i]
        )[1]
        assert torch.equal(alone[0], together[i]), i


def test_seed_increments_per_sample(tiny_musicgen):
    both = tiny_musicgen.generate_unconditional(2, return_tokens=True, seed=5)[1]
    second = tiny_musicgen.generate_unconditional(1, return_tokens=True, seed=6)[1]
    assert torch.equal(both[1], second[0])


def test_greedy_decoding_is_deterministic_without_a_seed(tiny_musicgen):
    tiny_musicgen.set_generation_params(use_sampling=False, duration=0.2)
    first, second = (
        tiny_musicgen.generate(["x"], return_tokens=True, seed=seed)[1] for seed in (1, 2)
    )
    assert torch.equal(first, second)


# Texts and clips.


def test_single_text_or_clip_is_broadcast(tiny_musicgen):
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


def test_none_clip_is_text_only(tiny_musicgen):
    with_none = tiny_musicgen.generate_with_style(["a"], [None], RATE, return_tokens=True, seed=1)
    text_alone = tiny_musicgen.generate(["a"], return_tokens=True, seed=1)
    assert torch.equal(with_none[1], text_alone[1])


def test_excerpt_start_changes_the_output(tiny_musicgen):
    sound = torch.cat([torch.zeros(1, RATE * 2), clip(2.0)], dim=1)

    def tokens(start):
        return tiny_musicgen.generate_with_style(
            [None], sound, RATE, return_tokens=True, seed=1, excerpt_start=start
        )[1]

    assert torch.equal(tokens(2.2), tokens(2.2))
    assert not torch.equal(tokens(0.0), tokens(2.2))
    assert torch.equal(tokens([2.2]), tokens(2.2))


def test_default_excerpt_start_is_drawn_from_the_seed(tiny_musicgen):
    first, again, other = (
        tiny_musicgen.generate_with_style(
            [None], clip(4.0), RATE, return_tokens=True, seed=seed, excerpt_start=start
        )[1]
        for seed, start in ((1, None), (1, select_excerpt_start(4.0, 1.5, 1)), (1, 0.0))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_clip_is_resampled_and_downmixed(tiny_musicgen):
    sound = clip(2.0, channels=2)
    wav = tiny_musicgen.generate_with_style([None], sound, 24000, seed=1)
    assert wav.shape == (1, 1, 20 * 640)


# Continuation and extended generation.


def test_continuation_starts_with_its_prompt(tiny_musicgen):
    prompt = clip(0.2)
    codes, _ = tiny_musicgen.compression_model.encode(prompt[None])
    tokens = tiny_musicgen.generate_continuation(prompt, RATE, return_tokens=True, seed=1)[1]
    assert torch.equal(tokens[..., : codes.shape[-1]], codes)
    assert tokens.shape[-1] == 20


def test_prompts_take_one_text_each_or_one_for_all(tiny_musicgen):
    prompts = torch.stack([clip(0.2, 1), clip(0.2, 2)])
    alone = [
        tiny_musicgen.generate_continuation(prompt, RATE, ["a"], return_tokens=True, seed=3 + i)[1]
        for i, prompt in enumerate(prompts)
    ]
    for texts in (["a"], ["a", "a"]):
        both = tiny_musicgen.generate_continuation(prompts, RATE, texts, return_tokens=True, seed=3)
        assert torch.equal(both[1], torch.cat(alone))


def test_extended_generation_starts_with_the_first_window(tiny_musicgen):
    tiny_musicgen.set_generation_params(duration=2.0)
    window = tiny_musicgen.generate(["waltz"], return_tokens=True, seed=2)[1]
    tiny_musicgen.set_generation_params(duration=3.3, extend_stride=0.5)
    long = tiny_musicgen.generate(["waltz"], return_tokens=True, seed=2)[1]
    assert long.shape[-1] == 165
    assert torch.equal(long[..., :100], window)


def test_window_overlap_is_duration_minus_stride(tiny_musicgen):
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


def test_style_features_are_computed_once_for_extended_generation(tiny_musicgen, monkeypatch):
    feature_extractor = tiny_musicgen.style_conditioner.feature_extractor
    inputs = []
    features = feature_extractor.features
    monkeypatch.setattr(
        feature_extractor, "features", lambda wav: inputs.append(wav) or features(wav)
    )
    tiny_musicgen.set_generation_params(duration=4.5, extend_stride=1.0)
    wav = tiny_musicgen.generate_with_style([None], clip(3.0), RATE, seed=1)
    assert wav.shape[-1] == 225 * 640
    assert len(inputs) == 1


@pytest.mark.parametrize("seconds", [2.0, 18.0, 30.0, 60.0])
def test_default_stride_fits_any_duration(tiny_musicgen, seconds):
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
    tiny_musicgen.generate(["a text of some words", None], seed=0)  # computed separately
    assert seen == sorted(seen)
    assert seen[-1] == (40, 40)
    seen.clear()
    tiny_musicgen.set_custom_progress_callback(None)
    tiny_musicgen.generate_unconditional(1, seed=0)
    assert seen == []


def test_progress_bar_is_drawn_on_request(tiny_musicgen, capsys):
    tiny_musicgen.generate_unconditional(1, seed=0)
    assert capsys.readouterr().err == ""
    tiny_musicgen.generate_unconditional(1, progress=True, seed=0)
    assert "20/20" in capsys.readouterr().err


# Errors.


def test_clip_shorter_than_the_excerpt_raises_with_both_lengths(tiny_musicgen):
    with pytest.raises(ValueError, match=r"of 1\.5 s does not fit in a clip of 1 s"):
        tiny_musicgen.generate_with_style([None], clip(1.0), RATE)


def test_style_input_without_style_conditioner_raises(tiny_musicgen):
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


def continue_from(prompt, rate=RATE, *texts):
    return lambda m: m.generate_continuation(prompt, rate, *texts)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.generate("piano"), "descriptions='piano'"),
        (lambda m: m.generate(None), "descriptions=None"),
        (lambda m: m.generate(3), "descriptions=3"),
        (lambda m: m.generate([]), "descriptions"),
        (lambda m: m.generate([3]), "descriptions 3"),
        (lambda m: m.generate_unconditional(0), "num_samples=0"),
        (lambda m: m.generate_unconditional(1.5), "num_samples=1.5"),
        (lambda m: m.generate(["a"], seed=[1, 2]), "seed 2 1"),
        (lambda m: m.generate(["a"], seed=["x"]), "seed='x'"),
        (lambda m: m.generate(["a"], seed="x"), "seed='x'"),
        (lambda m: m.generate(["a"], seed=1.5), "seed=1.5"),
        (lambda m: m.generate(["a"], seed=2**70), f"seed={2**70}"),
        (lambda m: m.generate(["a"], seed=1, generators=generators_of(1)), "seed=1 generators"),
        (lambda m: m.generate(["a"], generators=generators_of(1, 2)), "2 generators 1 samples"),
        (lambda m: m.generate(["a", "b"], generators=generators_of(1) * 2), "generators"),
        (
            lambda m: m.generate(["a", "b"], generators=generators_of(1)[0]),
            "1 generators 2 samples",
        ),
        (params(duration=0), "duration=0"),
        (params(duration=-1), "duration=-1"),
        (params(duration="8"), "duration='8'"),
        (params(temperature=None), "temperature None"),
        (params(top_p="0.9"), "top_p '0.9'"),
        (params(extend_stride="1"), "extend_stride='1'"),
        (style_params(eval_q=2.5), "eval_q 2.5"),
        (style_params(excerpt_length="3"), "excerpt_length '3'"),
        (in_style(["a"], clip(2), excerpt_start="1"), "excerpt_start='1'"),
        (params(duration=float("nan")), "duration=nan"),
        (params(duration=float("inf")), "duration=inf"),
        (params(temperature=-1), "temperature -1"),
        (params(top_k=-5), "top_k -5"),
        (params(top_k=2.5), "top_k 2.5"),
        (params(top_p=1.5), "top_p 1.5"),
        (params(cfg_coef=float("nan")), "cfg_coef=nan"),
        (params(cfg_coef_beta=float("inf")), "cfg_coef_beta=inf"),
        (params(extend_stride=2.0), "extend_stride=2.0 max_duration=2.0"),
        (params(extend_stride=0), "extend_stride=0"),
        (style_params(eval_q=7), "eval_q 7 6"),
        (style_params(eval_q=0), "eval_q 0"),
        (style_params(excerpt_length=0), "excerpt_length 0"),
        (style_params(excerpt_length=-1.5), "excerpt_length -1.5"),
        (style_params(ds_factor=0), "ds_factor 0"),
        (style_params(encodec_n_q=2), "encodec_n_q 2 MusicnnFeatures"),
        (in_style(["a"] * 2, [clip(2)] * 3), "2 descriptions 3 clips"),
        (in_style(["a"], []), "style_wavs"),
        (in_style(["a"], 3), "style_wavs int"),
        (in_style(["a"], ["x"]), "style_wavs str"),
        (in_style(["a"], clip(2) * float("nan")), "style_wavs NaN"),
        (in_style(["a"], clip(2) / clip(2).abs().max() * 32767), "style_wavs 32767 32768"),
        (in_style(["a"], torch.zeros(5)), "style_wavs [B, C, T] [5]"),
        (in_style(["a"], [torch.zeros(1, 1, 5)]), "style_wavs [C, T] [1, 1, 5]"),
        (in_style(["a"], torch.zeros(1, 0)), "style_wavs [C, T] [1, 0]"),
        (in_style(["a"], torch.zeros(0, 5)), "style_wavs 0 channels"),
        (in_style(["a"], clip(2, channels=9)), "style_wavs 9 channels"),
        (in_style(["a"], clip(2).bool()), "style_wavs torch.bool"),
        (in_style(["a"], clip(2), 0), "style_sample_rate=0"),
        (in_style(["a"], clip(2), 44.1), "style_sample_rate=44.1"),
        (in_style(["a"], clip(2), excerpt_start=[0.0, 0.0]), "excerpt_start 2 1"),
        (in_style(["a"], clip(2), excerpt_start=-0.5), "excerpt_start=-0.5"),
        (in_style(["a"], clip(2), excerpt_start=1.9), "1.9"),
        (continue_from(clip(1.0)), "prompt 1.00 duration"),
        (continue_from(clip(0.2) * float("inf")), "prompt infinite"),
        (continue_from([clip(0.2)]), "prompt [B, C, T] list"),
        (continue_from(clip(0.2), -1), "prompt_sample_rate=-1"),
        (continue_from(clip(0.2)[0]), "prompt [B, C, T] [6400]"),
        (continue_from(clip(0.2).expand(2, 1, -1), RATE, ["a"] * 3), "3 descriptions 2"),
        (lambda m: m.decode(torch.zeros(4, 5).long()), "[B, K, F] [4, 5]"),
        (lambda m: m.decode(torch.full((1, 4, 5), 400)), "399 400"),
        (lambda m: m.decode(-torch.ones(1, 4, 5).long()), "399 -1"),
        (lambda m: m.decode(torch.zeros(1, 5, 5).long()), "4"),
        (lambda m: m.decode(torch.zeros(1, 4, 5)), "torch.float32"),
        (lambda m: m.decode([[1]]), "[B, K, F] list"),
    ],
)
def test_invalid_argument_raises_with_name_and_value(tiny_musicgen, call, message):
    """`message`: words that the error contains in this order."""
    with pytest.raises(ValueError, match=".*".join(map(re.escape, message.split(" ")))):
        call(tiny_musicgen)


@pytest.mark.parametrize(
    "descriptions",
    [("a", None), (text for text in ("a", None)), np.array(["a", "b"]), ["\ud83c", "a\0b"]],
    ids=["tuple", "generator", "numpy", "surrogate"],
)
def test_descriptions_may_be_any_iterable_of_texts(tiny_musicgen, descriptions):
    assert len(tiny_musicgen.generate(descriptions, seed=1)) == 2


def test_seed_may_be_a_tensor_or_a_numpy_integer(tiny_musicgen):
    expected = tiny_musicgen.generate(["a"], seed=3)
    for seed in (torch.tensor(3), np.int64(3), [torch.tensor(3)], np.array([3])):
        torch.testing.assert_close(tiny_musicgen.generate(["a"], seed=seed), expected)


def test_clips_argument_may_be_none(tiny_musicgen):
    expected = tiny_musicgen.generate(["a", "b"], seed=3)
    given = tiny_musicgen.generate_with_style(["a", "b"], None, RATE, seed=3)
    torch.testing.assert_close(given, expected)


def test_integer_and_numpy_clips_equal_scaled_floats(tiny_musicgen):
    integers = (clip(2) / clip(2).abs().max() * 32767).short()
    expected = tiny_musicgen.generate_with_style(["a"], integers.float() / 32768, RATE, seed=3)
    for wav in (integers, integers.numpy()):
        given = tiny_musicgen.generate_with_style(["a"], wav, RATE, seed=3)
        torch.testing.assert_close(given, expected)


def test_tokenizer_stays_in_float32(tiny_musicgen):
    codec = tiny_musicgen.compression_model
    before = {name: value.clone() for name, value in codec.state_dict().items()}
    expected = tiny_musicgen.generate_continuation(clip(0.2), RATE, seed=1)
    codec.half()
    for name, value in codec.state_dict().items():
        assert torch.equal(value, before[name])
    torch.testing.assert_close(
        tiny_musicgen.generate_continuation(clip(0.2), RATE, seed=1), expected
    )
    assert next(codec.double().parameters()).dtype is torch.float64


@pytest.mark.parametrize("hundredths", [35, 57, 58, 59, 115, 116, 199])
def test_duration_is_rounded_to_the_nearest_frame(tiny_musicgen, hundredths):
    tiny_musicgen.set_generation_params(duration=hundredths / 100, use_sampling=False)
    _, tokens = tiny_musicgen.generate([None], return_tokens=True)
    assert abs(tokens.shape[-1] - hundredths / 2) <= 0.5


def test_duration_of_less_than_half_a_frame_raises(tiny_musicgen):
    tiny_musicgen.set_generation_params(duration=0.009)
    with pytest.raises(ValueError, match=r"duration=0\.009 .* 0\.02 s"):
        tiny_musicgen.generate([None])


def test_prompt_as_long_as_a_window_raises_with_both_lengths(tiny_musicgen):
    tiny_musicgen.set_generation_params(duration=5.0)
    with pytest.raises(ValueError, match=r"2\.50 s.* 2\.00 s"):
        tiny_musicgen.generate_continuation(clip(2.5), RATE)
