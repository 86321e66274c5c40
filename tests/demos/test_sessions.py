"""Wishes become pieces: the same as those of the command line, or a sentence why not."""

import errno
import json
import threading
import types
from pathlib import Path

import pytest
import soundfile
import torch

from audiocraft.errors import AudiocraftError
from audiocraft.inference.generator import hash_wave
from audiocraft.inference.recipe import Recipe
from demos import sessions as sessions_module
from demos.sentences import Cancelled, sentence_of
from demos.sessions import requests_of

from .conftest import tone, wish, write


def nothing(done, total):
    """A report that nobody reads."""


def test_a_wish_becomes_as_many_pieces_with_pictures_and_recipes(studio, sessions, clip):
    session = sessions.of("ada")
    take = studio.make(wish(clip=str(clip), start=0.5, count=3), session, nothing)
    assert session.takes == [take]
    assert len({file.audio.read_bytes() for file in take.files}) == 3
    for number, file in enumerate(take.files):
        samples, _ = soundfile.read(file.audio)
        assert abs(samples).max() > 0.01
        assert file.picture.read_bytes().startswith(b"\x89PNG")
        request = json.loads(file.recipe.read_text())["request"]
        assert request["seed"] == 3 + number
        assert request["excerpt_start"] == 0.5


def test_a_recipe_makes_the_piece_again_and_names_no_folder_of_the_server(studio, sessions, clip):
    take = studio.make(wish(clip=str(clip), start=0.5, count=2), sessions.of("ada"), nothing)
    written = take.files[1].recipe.read_text()
    assert str(clip.parent) not in written
    values = json.loads(written)
    assert values["request"]["style"] == clip.name
    values["request"]["style"] = str(clip)  # what `--style` does
    recipe = Recipe.from_dict(values, "recipe")
    again = studio.maker.make_again(recipe)
    assert hash_wave(again.wav) == recipe.waveform_sha256


def test_without_a_seed_every_wish_has_another():
    seeds = {requests_of(wish(seed=seed))[0].seed for seed in (None, "", None)}
    assert len(seeds) == 3
    assert [request.seed for request in requests_of(wish(seed="7", count=2))] == [7, 8]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"text": "  "}, "Describe the music, or give a clip"),
        ({"text": "🎷" * 10_000}, "Say it in at most 2,000"),
        ({"count": 5}, "1 to 4 variations"),
        ({"duration": 3600}, "up to 60 s here"),
        ({"duration": float("nan")}, "up to 60 s here"),
        ({"seed": "soon"}, "seed must be a whole number"),
        ({"seed": -1}, "A seed is a number from 0"),
        ({"seed": 2**70}, "A seed is a number from 0"),
        ({"guidance": float("inf")}, "guidance must be a number"),
        ({"clip": "gone.wav"}, "There is no audio file gone.wav"),
    ],
)
def test_a_wish_that_cannot_be_fulfilled_is_told_in_a_sentence(changes, sentence, studio, sessions):
    with pytest.raises(AudiocraftError, match=sentence):
        studio.make(wish(**changes), sessions.of("ada"), nothing)


def test_emoji_and_coarse_clips_make_music(studio, sessions, tmp_path):
    coarse = write(tmp_path / "coarse.wav", tone(3, 1000), 1000, "PCM_U8")
    take = studio.make(wish(text="🎷🔥", clip=str(coarse), start=0), sessions.of("ada"), nothing)
    assert take.title == "🎷🔥 in the style of coarse.wav"
    assert take.files[0].audio.stem == "untitled_3"


def test_a_cancelled_wish_ends_half_way_and_the_next_is_fulfilled(studio, sessions):
    session, heard = sessions.of("ada"), []

    def report(done, total):
        heard.append(done / total)
        if done > total / 4:
            session.cancelled.set()

    with pytest.raises(Cancelled):
        studio.make(wish(duration=2), session, report)
    assert heard[-1] < 0.75
    assert session.takes == []
    assert list(session.folder.iterdir()) == []
    assert len(studio.make(wish(), session, nothing).files) == 1


def test_a_full_disk_leaves_nothing_half_written_and_the_next_wish_is_fulfilled(
    studio, sessions, monkeypatch
):
    session = sessions.of("ada")
    write_piece = sessions_module.write_piece

    def full(folder: Path, name: str, piece, *args):
        (folder / f"{name}.wav").write_bytes(b"RIFF")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sessions_module, "write_piece", full)
    with pytest.raises(OSError, match="No space") as caught:
        studio.make(wish(), session, nothing)
    assert "The disk of the server is full" in sentence_of(caught.value)
    assert list(session.folder.iterdir()) == []

    monkeypatch.setattr(sessions_module, "write_piece", write_piece)
    assert studio.make(wish(), session, nothing).files[0].audio.exists()


def test_a_disk_without_room_for_what_is_served_is_full(studio, sessions, monkeypatch):
    usage = types.SimpleNamespace(free=1000)
    monkeypatch.setattr(sessions_module.shutil, "disk_usage", lambda folder: usage)
    session = sessions.of("ada")
    with pytest.raises(OSError, match="No space"):
        studio.make(wish(), session, nothing)
    assert list(session.folder.iterdir()) == []


def test_two_people_at_once_get_what_they_would_get_alone(studio, sessions, clip):
    wishes = {"ada": wish(text="loud rock"), "bob": wish(clip=str(clip), start=0.2, seed=9)}
    alone = {name: studio.make(w, sessions.of("alone"), nothing) for name, w in wishes.items()}
    together = {}

    def visit(name):
        together[name] = studio.make(wishes[name], sessions.of(name), nothing)

    visitors = [threading.Thread(target=visit, args=[name]) for name in wishes]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    for name in wishes:
        audios = [take[name].files[0].audio.read_bytes() for take in (alone, together)]
        assert audios[0] == audios[1]
    assert [len(sessions.of(name).takes) for name in wishes] == [1, 1]


def test_older_takes_make_room(studio, sessions, monkeypatch):
    monkeypatch.setattr(sessions_module, "KEPT", 2)
    session = sessions.of("ada")
    takes = [studio.make(wish(seed=seed, duration=0.1), session, nothing) for seed in range(3)]
    assert session.takes == takes[1:]
    assert len(list(session.folder.iterdir())) == 2


def test_who_leaves_is_forgotten(studio, sessions):
    session = sessions.of("../../etc")
    studio.make(wish(duration=0.1), session, nothing)
    assert session.folder.parent == sessions.folder
    sessions.forget("../../etc")
    assert session.cancelled.is_set()
    assert list(sessions.folder.iterdir()) == []
    assert sessions.of("../../etc").takes == []
    sessions.forget("nobody")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk of the server is full"),
        (torch.OutOfMemoryError("CUDA"), "fewer variations"),
        (MemoryError(), "fewer variations"),
        (ZeroDivisionError("secret"), "went wrong on the server (ZeroDivisionError)"),
    ],
)
def test_what_nobody_foresaw_is_a_sentence_too(error, sentence, caplog):
    told = sentence_of(error)
    assert sentence in told
    assert "secret" not in told
    assert caplog.records


def test_a_sentence_names_the_clip_and_not_the_folder():
    error = AudiocraftError("/tmp/x/<i>.wav is silent")
    assert sentence_of(error, Path("/tmp/x/<i>.wav")) == "&lt;i&gt;.wav is silent"
