"""Generation from the form: samples as from the command line, or one sentence of error."""

import errno
import json
import threading
import types
from pathlib import Path

import pytest
import soundfile
import torch

from audiocraft.errors import AudiocraftError
from audiocraft.inference.recipe import Recipe
from audiocraft.inference.sample_generator import hash_waveform
from demos import sessions as sessions_module
from demos.error_messages import Cancelled, error_message
from demos.handlers import show
from demos.sessions import build_requests

from .conftest import form, tone, write


def nothing(done, total):
    """Ignores progress."""


def test_the_form_generates_samples_with_pictures_and_recipes(service, sessions, clip):
    session = sessions.get("ada")
    result = service.generate(form(clip=str(clip), start=0.5, count=3), session, nothing)
    assert session.results == [result]
    assert len({file.audio.read_bytes() for file in result.files}) == 3
    for number, file in enumerate(result.files):
        samples, _ = soundfile.read(file.audio)
        assert abs(samples).max() > 0.01
        assert file.picture.read_bytes().startswith(b"\x89PNG")
        request = json.loads(file.recipe.read_text())["request"]
        assert request["seed"] == 3 + number
        assert request["excerpt_start"] == 0.5


def test_a_recipe_reproduces_the_sample_and_names_no_folder_of_the_server(service, sessions, clip):
    result = service.generate(
        form(clip=str(clip), start=0.5, count=2), sessions.get("ada"), nothing
    )
    written = result.files[1].recipe.read_text()
    assert str(clip.parent) not in written
    values = json.loads(written)
    assert values["request"]["style"] == clip.name
    values["request"]["style"] = str(clip)  # what `--style` does
    recipe = Recipe.from_dict(values, "recipe")
    again = service.sample_generator.reproduce(recipe)
    assert hash_waveform(again.wav) == recipe.waveform_sha256


def test_without_a_seed_each_submission_draws_one():
    seeds = {build_requests(form(seed=seed))[0].seed for seed in (None, "", None)}
    assert len(seeds) == 3
    assert [request.seed for request in build_requests(form(seed="7", count=2))] == [7, 8]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"text": "  "}, "Describe the music, or give a clip"),
        ({"text": "🎷" * 10_000}, "maximum is 2,000"),
        ({"count": 5}, "1 to 4 variations"),
        ({"duration": 3600}, "up to 60 s here"),
        ({"duration": float("nan")}, "up to 60 s here"),
        ({"seed": "soon"}, "seed must be a whole number"),
        ({"seed": -1}, "seed must be from 0"),
        ({"seed": 2**70}, "seed must be from 0"),
        ({"guidance": float("inf")}, "guidance must be a finite number"),
        ({"clip": "gone.wav"}, "There is no audio file gone.wav"),
    ],
)
def test_values_that_cannot_be_used_are_refused_in_one_sentence(
    changes, sentence, service, sessions
):
    with pytest.raises(AudiocraftError, match=sentence):
        service.generate(form(**changes), sessions.get("ada"), nothing)


def test_emoji_and_low_quality_clips_are_accepted(service, sessions, tmp_path):
    coarse = write(tmp_path / "coarse.wav", tone(3, 1000), 1000, "PCM_U8")
    result = service.generate(
        form(text="🎷🔥", clip=str(coarse), start=0), sessions.get("ada"), nothing
    )
    assert result.title == "🎷🔥 in the style of coarse.wav"
    assert result.files[0].audio.stem == "untitled_3"


def test_text_is_not_interpreted(service, sessions):
    text = "$a$ <b>x</b> [/] %s {x} \0 half an emoji \ud83c"
    result = service.generate(form(text=text), sessions.get("ada"), nothing)
    shown = show(result)[0]
    assert "&lt;b&gt;x&lt;/b&gt; [/] %s {x}" in shown
    recipe = Recipe.load(result.files[0].recipe)
    assert recipe.request.text == text.replace("\ud83c", "\ufffd")


def test_a_cancelled_generation_ends_early_and_the_next_one_works(service, sessions):
    session, fractions = sessions.get("ada"), []

    def report(done, total):
        fractions.append(done / total)
        if done > total / 4:
            session.cancelled.set()

    with pytest.raises(Cancelled):
        service.generate(form(duration=2), session, report)
    assert fractions[-1] < 0.75
    assert session.results == []
    assert list(session.folder.iterdir()) == []
    assert len(service.generate(form(), session, nothing).files) == 1


def test_a_full_disk_leaves_no_partial_result_and_the_next_one_works(
    service, sessions, monkeypatch
):
    session = sessions.get("ada")
    write_sample = sessions_module.write_sample

    def full(folder: Path, name: str, sample, *args):
        (folder / f"{name}.wav").write_bytes(b"RIFF")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sessions_module, "write_sample", full)
    with pytest.raises(OSError, match="No space") as caught:
        service.generate(form(), session, nothing)
    assert "The disk of the server is full" in error_message(caught.value)
    assert list(session.folder.iterdir()) == []

    monkeypatch.setattr(sessions_module, "write_sample", write_sample)
    assert service.generate(form(), session, nothing).files[0].audio.exists()


def test_too_little_disk_space_for_results_is_an_error(service, sessions, monkeypatch):
    usage = types.SimpleNamespace(free=1000)
    monkeypatch.setattr(sessions_module.shutil, "disk_usage", lambda folder: usage)
    session = sessions.get("ada")
    with pytest.raises(OSError, match="No space"):
        service.generate(form(), session, nothing)
    assert list(session.folder.iterdir()) == []


def test_concurrent_sessions_get_the_results_of_separate_ones(service, sessions, clip):
    forms = {"ada": form(text="loud rock"), "bob": form(clip=str(clip), start=0.2, seed=9)}
    alone = {name: service.generate(w, sessions.get("alone"), nothing) for name, w in forms.items()}
    together = {}

    def visit(name):
        together[name] = service.generate(forms[name], sessions.get(name), nothing)

    visitors = [threading.Thread(target=visit, args=[name]) for name in forms]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    for name in forms:
        audios = [result[name].files[0].audio.read_bytes() for result in (alone, together)]
        assert audios[0] == audios[1]
    assert [len(sessions.get(name).results) for name in forms] == [1, 1]


def test_the_oldest_results_are_deleted(service, sessions, monkeypatch):
    monkeypatch.setattr(sessions_module, "MAX_RESULTS", 2)
    session = sessions.get("ada")
    results = [
        service.generate(form(seed=seed, duration=0.1), session, nothing) for seed in range(3)
    ]
    assert session.results == results[1:]
    assert len(list(session.folder.iterdir())) == 2


def test_a_closed_session_is_deleted(service, sessions):
    session = sessions.get("../../etc")
    service.generate(form(duration=0.1), session, nothing)
    assert session.folder.parent == sessions.folder
    sessions.remove("../../etc")
    assert session.cancelled.is_set()
    assert list(sessions.folder.iterdir()) == []
    assert sessions.get("../../etc").results == []
    sessions.remove("unknown")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk of the server is full"),
        (torch.OutOfMemoryError("CUDA"), "fewer variations"),
        (MemoryError(), "fewer variations"),
        (ZeroDivisionError("secret"), "went wrong on the server (ZeroDivisionError)"),
    ],
)
def test_an_unexpected_error_is_one_sentence(error, sentence, caplog):
    reported = error_message(error)
    assert sentence in reported
    assert "secret" not in reported
    assert caplog.records


def test_a_message_names_the_clip_and_not_the_folder():
    error = AudiocraftError("/tmp/x/<i>.wav is silent")
    assert error_message(error, Path("/tmp/x/<i>.wav")) == "&lt;i&gt;.wav is silent"
