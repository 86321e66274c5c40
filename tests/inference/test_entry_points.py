"""The same seed gives the same excerpt and the same tokens through every entry point."""

import pytest
import torch

from audiocraft.cli.main import main
from audiocraft.data.audio import audio_read, audio_write
from audiocraft.data.audio_utils import convert_audio
from audiocraft.inference.sample_generator import SampleGenerator
from audiocraft.models import MusicGen, musicgen
from audiocraft.models.generation.style_excerpt import excerpt_seed
from audiocraft.solvers.loggers import Loggers
from audiocraft.solvers.sample_generation import (
    ConditioningClip,
    ConditioningModes,
    SampleWriter,
    write_samples,
)
from demos.sessions import FormValues, GenerationService, Session

SEED = 7


@pytest.fixture(params=[32000, 44100])
def path(request, tmp_path):
    """A clip of 3.3 s, mono at the model's sample rate or stereo at another one."""
    shape = 1 + (request.param != 32000), int(3.3 * request.param)
    wav = 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return str(audio_write(tmp_path / "clip", wav, request.param))


@pytest.fixture
def model(tiny_musicgen, monkeypatch) -> MusicGen:
    """Model with the settings of each entry point; records the tokens in `model.tokens`."""
    tiny_musicgen.tokens = []
    generate = musicgen.generate_samples

    def recording(*args, **kwargs):
        codes = generate(*args, **kwargs)
        tiny_musicgen.tokens.append(codes)
        return codes

    monkeypatch.setattr(musicgen, "generate_samples", recording)
    monkeypatch.setattr(MusicGen, "get_pretrained", staticmethod(lambda *a, **k: tiny_musicgen))
    tiny_musicgen.set_generation_params(duration=0.4, cfg_coef=3.0, cfg_coef_beta=5.0)
    tiny_musicgen.set_style_conditioner_params(eval_q=3, excerpt_length=1.5)
    return tiny_musicgen


def from_python(model, path, tmp_path):
    wav, rate = audio_read(path)
    model.generate_with_style(["waltz"], wav, rate, seed=SEED)


def from_a_generator(model, path, tmp_path):
    wav, rate = audio_read(path)
    generators = [torch.Generator().manual_seed(SEED)]
    model.generate_with_style(["waltz"], wav, rate, generators=generators)


def from_the_command_line(model, path, tmp_path):
    words = ["--duration", "0.4", "--excerpt-length", "1.5", "--out", str(tmp_path / "out")]
    main(["generate", "--text", "waltz", "--style", path, "--seed", str(SEED), *words])


def from_the_page(model, path, tmp_path):
    folder = tmp_path / "page"
    folder.mkdir()
    form = FormValues(
        text="waltz",
        clip=path,
        start=None,
        count=1,
        seed=SEED,
        duration=0.4,
        excerpt_length=1.5,
        style_detail=3,
        guidance=3.0,
        text_weight=5.0,
    )
    GenerationService(SampleGenerator(model)).generate(
        form, Session(folder), lambda done, total: None
    )


def from_training(model, path, tmp_path):
    wav, rate = audio_read(path)
    if rate != model.sample_rate:
        pytest.skip("segments of a data set have the model's sample rate")
    wav = convert_audio(wav, rate, model.sample_rate, model.audio_channels)
    clip = ConditioningClip(
        name="a", wav=wav, description="waltz", path=path, seek_time=0.0, seed=SEED
    )
    modes = ConditioningModes(prompted=False, unprompted=True, use_text=True, prompt_duration=0.1)
    writer = SampleWriter(tmp_path / "samples", model.sample_rate, Loggers(), {})
    write_samples(model, [clip], modes, writer, epoch=1, batch_size=1, progress=lambda x: x)


@pytest.mark.parametrize(
    "generate", [from_a_generator, from_the_command_line, from_the_page, from_training]
)
def test_every_entry_point_generates_the_tokens_of_the_python_api(model, path, tmp_path, generate):
    from_python(model, path, tmp_path)
    generate(model, path, tmp_path)
    assert torch.equal(model.tokens[0], model.tokens[-1])


def test_a_seed_selects_the_excerpt(model, path):
    wav, rate = audio_read(path)
    for seed, start in ((SEED, None), (SEED, 0.0)):
        model.generate_with_style(["waltz"], wav, rate, seed=seed, excerpt_start=start)
    assert not torch.equal(model.tokens[0], model.tokens[1])


def test_a_used_generator_selects_another_excerpt():
    generator = torch.Generator().manual_seed(SEED)
    assert excerpt_seed(generator) == SEED == excerpt_seed(generator)
    torch.rand(1, generator=generator)
    assert SEED != excerpt_seed(generator) != excerpt_seed(generator)
