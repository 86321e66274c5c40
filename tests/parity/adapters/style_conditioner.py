"""Replays `style_conditioner*`: the whole conditioner with recorded features."""

import random

import pytest
import torch

from audiocraft.data.conditions import WavCondition
from audiocraft.modules.conditioners import StyleConditioner, StyleScale, merge_excerpt_masks
from audiocraft.modules.conditioners.features import MertFeatures

from ..deviations import deviation
from ..harness import adapter, assert_close, fill_with_recipe, recipe

RECORDED_ONLY = ("device", "inner_dim", "output_dim")


class RecordedFeatures(MertFeatures):
    """Returns features of the recipe, and records its input."""

    def __init__(self, seed: int, batch_size: int, rows: list[int]):
        super().__init__(torch.nn.Identity())
        self.seed, self.batch_size, self.rows = seed, batch_size, rows

    def features(self, wav):
        self.inputs = wav
        shape = [self.batch_size, self.num_frames(wav.shape[-1]), self.dim]
        key = f"features/{shape[0]}/{shape[1]}"
        return recipe(self.seed, key, shape)[self.rows]


def scale_of(text: str) -> str | StyleScale:
    """Return the scale; sizes, recorded as text, become a `StyleScale`."""
    if "=" not in text:
        return text
    return StyleScale(**{k: int(v) for k, v in (pair.split("=") for pair in text.split())})


def clips_of(case, call) -> WavCondition:
    args = call["args"]
    if "wav_shape" in args:
        wav = recipe(args["wav_seed"], args["wav_key"], args["wav_shape"]) * 0.1
    else:
        sizes = args["wav"].removeprefix("zeros [").removesuffix("]").split(",")
        wav = torch.zeros([int(size) for size in sizes])
    lengths = case.inputs(call).get("lengths", torch.full((len(wav),), wav.shape[-1]))
    rates = [case.meta["config"]["sample_rate"]] * len(wav)
    wav = wav * (lengths > 0)[:, None, None]
    return WavCondition(wav, lengths, rates, start=[None] * len(wav))


def conditioner_of(case, clips: WavCondition, args: dict) -> StyleConditioner:
    config = {k: v for k, v in case.meta["config"].items() if k not in RECORDED_ONLY}
    rows = (clips.length > 0).nonzero().flatten().tolist()
    feature_extractor = RecordedFeatures(case.meta["feature_seed"], len(clips.wav), rows)
    config["transformer_scale"] = scale_of(config["transformer_scale"])
    style = StyleConditioner(feature_extractor, case.meta["config"]["output_dim"], **config).eval()
    if "state_seed" in case.meta:
        assert {k: list(v.shape) for k, v in style.state_dict().items()} == case.meta["state_keys"]
        fill_with_recipe(style, case.meta["state_seed"])
    else:
        style.load_state_dict(case.state())
    names = ("eval_q", "excerpt_length", "ds_factor", "encodec_n_q")
    style.set_params(**{name: args[name] for name in names if name in args})
    return style


def with_recorded_draws(case, call, clips: WavCondition, style: StyleConditioner) -> WavCondition:
    """Use the length and start that the original drew from Python's generator."""
    config = case.meta["config"]
    if "python_seed" not in call["args"]:
        return clips
    rng = random.Random(call["args"]["python_seed"])
    if call["args"]["train"]:
        style.set_params(excerpt_length=rng.uniform(*config["varying_lengths"]))
    length = int(style.excerpt_length * config["sample_rate"])
    assert length == call["length_subwav"]
    start = rng.randint(0, clips.wav.shape[-1] - length)
    return clips._replace(start=[start / config["sample_rate"]] * len(clips.wav))


def check_condition(case, call, style, clips):
    """Compare all recorded values, except the excerpt mask of null clips."""
    expected = case.outputs(call)
    condition = style(style.prepare(clips))

    recorded_mask = expected["mask"].bool()
    tolerance = 1e-4 if "state_seed" in case.meta else 1e-5
    ours = condition.embed * recorded_mask.unsqueeze(-1)
    assert_close(ours, expected["embeds"], atol=tolerance)
    assert condition.mask.shape == recorded_mask.shape
    assert torch.equal(condition.mask & recorded_mask, recorded_mask)
    assert (condition.excerpt_mask is None) == call.get("loss_mask_is_none", False)
    if condition.excerpt_mask is None:
        return
    present = style.feature_extractor.rows
    loss_mask = expected["loss_mask"][present]  # [N, K, F], the same for all codebooks
    excerpt_mask = merge_excerpt_masks({"self_wav": condition}, loss_mask.shape[-1])[present]
    assert_close(~excerpt_mask[:, None].expand_as(loss_mask), loss_mask)
    excerpts = style.feature_extractor.inputs
    assert excerpts.shape[-1] == call["extractor_input_shape"][-1]
    parts = {"head": excerpts[:, :200], "tail": excerpts[:, -200:], "strided": excerpts[:, ::101]}
    for name, part in parts.items():
        assert_close(part, expected[f"extractor_input_{name}"][present])


def check_padding_as_audio(case, call, style, clips):
    """If padding counts as audio, our embeddings equal the recorded ones.

    The recorded mask has fewer steps; our rule is the same, but has no effect, since an excerpt
    always fits into its clip.
    """
    whole = torch.where(clips.length > 0, clips.wav.shape[-1], 0)
    steps = style.valid_steps(clips.length).clamp(max=case.outputs(call)["mask"].shape[1])
    assert_close(steps, case.outputs(call)["mask"].sum(1))
    check_condition(case, call, style, clips._replace(length=whole))


def setup(case, call):
    clips = clips_of(case, call)
    style = conditioner_of(case, clips, call["args"])
    return style, with_recorded_draws(case, call, clips, style)


@adapter("style_conditioner")
def check(case, call):
    style, clips = setup(case, call)
    condition = style(style.prepare(clips))
    assert_close(condition.mask.int(), case.outputs(call)["mask"])
    check_condition(case, call, style, clips)


def has_padded_clips(case, call) -> bool:
    clips = clips_of(case, call)
    return bool(((clips.length > 0) & (clips.length < clips.wav.shape[-1])).any())


def does_not_fit(case, call) -> bool:
    seconds = call["args"].get("excerpt_length", case.meta["config"]["length"])
    clips = clips_of(case, call)
    length = int(seconds * case.meta["config"]["sample_rate"])
    return bool((clips.length > 0).any()) and clips.wav.shape[-1] < length


@deviation(
    "style_conditioner",
    does_not_fit,
    "The original crashes, or silently takes a shorter excerpt than requested.",
)
def check_too_short(case, call):
    style, clips = setup(case, call)
    with pytest.raises(ValueError, match="does not fit"):
        style.prepare(clips)
    if "embeds" in case.outputs(call):  # of the whole clip, which may be requested
        style.set_params(excerpt_length=(clips.wav.shape[-1] + 0.5) / style.sample_rate)
        check_padding_as_audio(case, call, style, clips)


@deviation(
    "style_conditioner",
    has_padded_clips,
    "The original takes excerpts from the padding behind a short clip.",
)
def check_padded(case, call):
    style, clips = setup(case, call)
    length = int(style.excerpt_length * style.sample_rate)
    unplaced = clips._replace(start=[None] * len(clips.wav))
    real = clips.length[clips.length > 0]
    if int(real.min()) < length:
        with pytest.raises(ValueError, match="does not fit"):
            style.prepare(unplaced)
    else:
        middles = [slice((n - length) // 2, (n - length) // 2 + length) for n in real.tolist()]
        excerpts = [wav[0, middle] for wav, middle in zip(clips.wav[clips.length > 0], middles)]
        assert_close(style.prepare(unplaced).excerpts, torch.stack(excerpts))
    check_padding_as_audio(case, call, style, clips)


def has_a_null_clip_among_others(case, call) -> bool:
    lengths = clips_of(case, call).length
    return bool((lengths == 0).any() and (lengths > 0).any())


@deviation(
    "style_conditioner",
    has_a_null_clip_among_others,
    "The original masks frames out of the loss of samples whose clip is null.",
)
def check_null_among_others(case, call):
    style, clips = setup(case, call)
    excerpt_mask = style(style.prepare(clips)).excerpt_mask
    assert not excerpt_mask[clips.length == 0].any()
    check_condition(case, call, style, clips)
