"""The public API: shapes, seeds, broadcasting, long pieces, and clear refusals."""

import re

import pytest
import torch

RATE = 32000


def clip(seconds: float, seed: int = 0, channels: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(channels, int(seconds * RATE), generator=generator)


def test_the_duration_is_what_was_asked_for(tiny_musicgen):
    wav, tokens = tiny_musicgen.generate(["calm piano", None], return_tokens=True, seed=1)
    assert tokens.shape == (2, 4, 20)
    assert wav.shape == (2, 1, 20 * 640)
    assert torch.isfinite(wav).all()
    assert tokens.min() >= 0
    assert tokens.max() < 400


def test_the_same_seed_gives_the_same_music_and_another_another(tiny_musicgen):
    first, again, other = (
        tiny_musicgen.generate(["techno"], return_tokens=True, seed=seed)[1] for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


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


def test_the_start_of_the_excerpt_may_be_chosen_and_matters(tiny_musicgen):
    sound = torch.cat([torch.zeros(1, RATE * 2), clip(2.0)], dim=1)

    def tokens(start):
        return tiny_musicgen.generate_with_style(
            [None], sound, RATE, return_tokens=True, seed=1, excerpt_start=start
        )[1]

    assert torch.equal(tokens(2.2), tokens(2.2))
    assert not torch.equal(tokens(0.0), tokens(2.2))


def test_a_clip_at_another_rate_and_in_stereo_is_converted(tiny_musicgen):
    sound = clip(2.0, channels=2)
    wav = tiny_musicgen.generate_with_style([None], sound, 24000, seed=1)
    assert wav.shape == (1, 1, 20 * 640)


def test_a_continuation_starts_with_its_prompt(tiny_musicgen):
    prompt = clip(0.2)
    codes, _ = tiny_musicgen.compression_model.encode(prompt[None])
    tokens = tiny_musicgen.generate_continuation(prompt, RATE, return_tokens=True, seed=1)[1]
    assert torch.equal(tokens[..., : codes.shape[-1]], codes)
    assert tokens.shape[-1] == 20


def test_a_long_piece_starts_with_what_one_window_gives(tiny_musicgen):
    tiny_musicgen.set_generation_params(duration=2.0)
    window = tiny_musicgen.generate(["waltz"], return_tokens=True, seed=2)[1]
    tiny_musicgen.set_generation_params(duration=3.3, extend_stride=0.5)
    long = tiny_musicgen.generate(["waltz"], return_tokens=True, seed=2)[1]
    assert long.shape[-1] == 165
    assert torch.equal(long[..., :100], window)


def test_progress_is_reported_to_the_end(tiny_musicgen):
    seen = []
    tiny_musicgen.set_custom_progress_callback(lambda done, total: seen.append((done, total)))
    tiny_musicgen.generate_unconditional(1, seed=0)
    assert seen == sorted(seen)
    assert seen[-1] == (20, 20)


def test_greedy_music_needs_no_seed(tiny_musicgen):
    tiny_musicgen.set_generation_params(use_sampling=False, duration=0.2)
    first, second = (
        tiny_musicgen.generate(["x"], return_tokens=True, seed=seed)[1] for seed in (1, 2)
    )
    assert torch.equal(first, second)


def test_a_clip_shorter_than_the_excerpt_names_both_lengths(tiny_musicgen):
    with pytest.raises(ValueError, match=r"48000 .* 32000"):
        tiny_musicgen.generate_with_style([None], clip(1.0), RATE)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.generate("piano"), "brackets"),
        (lambda m: m.generate([]), "empty"),
        (lambda m: m.generate_unconditional(0), "num_samples"),
        (lambda m: m.generate(["a"], seed=[1, 2]), "2 seeds"),
        (lambda m: m.set_generation_params(duration=0), "duration"),
        (lambda m: m.set_generation_params(temperature=-1), "temperature"),
        (lambda m: m.set_generation_params(extend_stride=2.0), "extend_stride"),
        (lambda m: m.set_style_conditioner_params(eval_q=7), "eval_q"),
        (lambda m: m.set_style_conditioner_params(excerpt_length=0), "excerpt_length"),
        (lambda m: m.generate_with_style(["a"] * 2, [clip(2)] * 3, RATE), "do not go"),
        (lambda m: m.generate_with_style(["a"], clip(2) * float("nan"), RATE), "NaN"),
        (lambda m: m.generate_with_style(["a"], torch.zeros(5), RATE), "[B, C, T]"),
        (lambda m: m.generate_with_style(["a"], clip(2, channels=9), RATE), "9"),
        (lambda m: m.generate_continuation(clip(1.0), RATE), "shorter prompt"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_value(tiny_musicgen, call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call(tiny_musicgen)
