"""Replays resampling, channels, levels, PCM and chroma."""

import math

import torch

from audiocraft.data.audio_utils import (
    convert_audio,
    convert_audio_channels,
    f32_pcm,
    i16_pcm,
    normalize_audio,
)
from audiocraft.signal.chroma import ChromaExtractor

from ..harness import adapter, assert_close, recipe


def tones(sample_rate, seconds, scale, noise_key, noise_seed, formula):
    """Return the two noisy tones described by `formula`."""
    time = torch.arange(sample_rate * seconds) / sample_rate
    wav = torch.stack(
        [torch.sin(2 * math.pi * 220 * time), 0.7 * torch.sin(2 * math.pi * 331 * time)]
    )
    return (wav * 0.9 + recipe(noise_seed, noise_key, wav.shape) * 0.1) * scale


def check_normalization(call, wav, expected):
    args = dict(call["args"])
    if "wav_recipe" not in call["in"]:
        assert_close(normalize_audio(wav, **args), expected["out"])
        return
    wav = tones(**call["in"]["wav_recipe"])
    ours = normalize_audio(wav, **args)
    for name, value in expected.items():
        if name.startswith("every"):
            kept = ours[..., :: int(name.removeprefix("every"))]
            assert_close(kept, value, atol=1e-4)
    if "gain" in expected:
        loud = wav.abs() > 0.01 * call["in"]["wav_recipe"]["scale"]
        gain = (ours[loud] / wav[loud]).median()
        assert_close(gain, expected["gain"], atol=1e-4)


def check_chroma(call, wav, expected):
    args = dict(call["args"])
    keys = args.pop("state_keys", None)
    norm = float(args.pop("norm", "inf"))
    argmax = args.pop("argmax", call["name"].endswith("argmax"))
    extractor = ChromaExtractor(
        sample_rate=args.pop("sample_rate", 16000), norm=norm, argmax=argmax, **args
    )
    if keys is not None:
        assert {k: list(v.shape) for k, v in extractor.state_dict().items()} == keys
    assert_close(extractor(wav), expected["out"])


@adapter("audio_utils")
def check(case, call):
    wav = case.inputs(call).get("wav")
    expected = case.outputs(call)
    kind = call["name"].split("_")[0]
    if kind == "convert":
        assert_close(convert_audio(wav, **call["args"]), expected["out"])
    elif kind == "channels":
        assert_close(convert_audio_channels(wav, **call["args"]), expected["out"])
    elif kind == "norm":
        check_normalization(call, wav, expected)
    elif kind == "i16":
        assert_close(i16_pcm(wav), expected["out"])
    elif kind == "f32":
        assert_close(f32_pcm(wav), expected["out"])
    else:
        assert kind == "chroma", f"unknown call {call['name']}"
        check_chroma(call, wav, expected)
