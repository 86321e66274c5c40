"""The page in a browser: generation, downloads, sessions and invalid input.

`AUDIOCRAFT_SCREENSHOTS=docs/images` writes the pictures of the documentation.
"""

import json
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from audiocraft.cli import generate as command

from .browser import (
    NEEDED,
    ROOT,
    USER,
    Server,
    choose,
    expect,
    generate,
    started_chromium,
    upload,
    visitors,
)
from .conftest import tone, write

pytestmark = [pytest.mark.slow, NEEDED]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture(scope="module")
def chromium():
    with started_chromium() as browser:
        yield browser


@pytest.fixture
def visit(chromium, server):
    with visitors(chromium, server) as arrive:
        yield arrive


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    chosen = os.environ.get("AUDIOCRAFT_SCREENSHOTS")
    return ROOT / chosen if chosen else tmp_path_factory.mktemp("pictures")


def photograph(tab, path: Path, **options) -> None:
    """Save a screenshot with few colours, to reduce its size."""
    tab.screenshot(path=path, **options)
    Image.open(path).quantize(96).save(path, optimize=True)
    assert path.stat().st_size < 300_000


LOUDEST = """async url => {
    const bytes = await (await fetch(url)).arrayBuffer();
    const sound = await new AudioContext().decodeAudioData(bytes);
    const loudest = sound.getChannelData(0).reduce((a, b) => Math.max(a, Math.abs(b)), 0);
    return [sound.duration, loudest];
}"""


def test_a_visitor_generates_music_and_downloads_it(visit, tmp_path, pictures):
    tab, played = visit(), set()
    tab.on("request", lambda request: request.url.endswith(".wav") and played.add(request.url))
    clip = ROOT / "dataset" / "example" / "jazz_01.mp3"
    upload(tab, clip)
    expect(tab.locator("#picture figure")).to_contain_text("excerpt: 3.0 to 6.0 s")
    choose(tab, "start", 4)
    expect(tab.locator("#picture figure")).to_contain_text("excerpt: 4.0 to 7.0 s")
    choose(tab, "duration", 5)
    tab.locator("#seed textarea, #seed input").fill("7")
    generate(tab, "A slow jazz tune with piano")
    expect(tab.locator("#status")).to_contain_text("seeds 7 to 8")
    expect(tab.locator("#player-2")).to_be_visible()
    expect(tab.locator("#player-3")).to_be_hidden()
    expect(tab.locator("#go")).to_be_enabled()

    expect(tab.locator("#player-2 [id=duration]")).to_have_text("0:05")
    assert len(played) == 2
    for url in played:
        duration, loudest = tab.evaluate(LOUDEST, url)
        assert duration == pytest.approx(5, abs=0.1)
        assert loudest > 0.05
    assert tab.locator("#picture-1 img").evaluate("image => image.naturalWidth") > 500

    time_played = tab.locator("#player-1 time").first
    before = time_played.inner_text()
    tab.locator("#player-1 button[aria-label*='Play']").click()
    expect(time_played).not_to_have_text(before)
    tab.locator("#player-1 button[aria-label*='Pause']").click()

    saved = {}
    for kind in ("audio", "recipe"):
        with tab.expect_download() as download:
            tab.locator(f"#{kind}-2").click()
        saved[kind] = tmp_path / download.value.suggested_filename
        download.value.save_as(saved[kind])
    tab.evaluate("scrollTo(0, 0)")
    photograph(tab, pictures / "demo.png", full_page=True)

    again = ["--from-recipe", str(saved["recipe"]), "--style", str(clip)]
    assert command.main([*again, "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / saved["audio"].name).read_bytes() == saved["audio"].read_bytes()


def test_numbers_out_of_range_are_clamped(visit):
    tab = visit()
    upload(tab, ROOT / "dataset" / "example" / "jazz_01.mp3")
    expect(tab.locator("#picture figure")).to_contain_text("excerpt: 3.0 to 6.0 s")
    for name, excerpt in (("start", "6.0 to 9.0"), ("excerpt_length", "4.5 to 9.0")):
        choose(tab, name, 100_000)
        expect(tab.locator("#picture figure")).to_contain_text(f"excerpt: {excerpt} s")


def test_earlier_results_stay_until_the_page_is_closed(visit, server):
    tab = visit()
    choose(tab, "duration", 1)
    tab.locator("#count label").first.click()
    generate(tab, "first")
    generate(tab, "second")
    results = tab.locator("#history label")
    expect(results).to_have_count(2)
    results.last.click()
    expect(tab.locator("#status")).to_contain_text("first")
    assert len(server.sessions) == 1
    tab.close()
    end = time.monotonic() + 20
    while server.sessions:
        assert time.monotonic() < end
        time.sleep(0.2)


def test_a_bundled_clip_and_the_microphone(visit):
    tab = visit()
    tab.locator("#bundled input").click()
    tab.get_by_role("option", name="reggae").click()
    expect(tab.locator("#picture figure")).to_have_attribute(
        "aria-label", re.compile("reggae_01.mp3")
    )
    tab.locator("#clip button[aria-label='Clear']").click()
    expect(tab.locator("#picture figure")).to_have_count(0)
    tab.locator("#clip button[aria-label='Record audio']").click()
    tab.locator("#clip button.record").click()
    expect(tab.locator("#clip .duration")).to_have_text(re.compile("0:0[5-9]|[1-9][0-9]"))
    tab.locator("#clip button.stop-button").click()
    choose(tab, "excerpt_length", 1.5)
    expect(tab.locator("#picture figure")).to_be_visible()


def test_a_late_response_does_not_replace_a_newer_one(visit):
    tab, held = visit(), []

    def hold(route):
        is_early = '"data":[null' in route.request.post_data
        held.append(route) if is_early else route.continue_()

    tab.route("**/queue/join*", hold)
    choose(tab, "excerpt_length", 1.5)  # before there is a clip
    upload(tab, ROOT / "dataset" / "example" / "jazz_01.mp3")
    expect(tab.locator("#clip button[aria-label='Clear']")).to_be_visible()
    tab.wait_for_timeout(1500)  # the newer one is answered, unless it is queued
    (early,) = held
    early.continue_()
    expect(tab.locator("#picture figure")).to_be_visible()
    tab.wait_for_timeout(1000)
    expect(tab.locator("#picture figure")).to_be_visible()


def test_cancelling_ends_the_generation_and_the_next_one_works(visit):
    tab = visit()
    choose(tab, "duration", 60)
    tab.locator("#count label").last.click()
    tab.locator("#text textarea").fill("endless")
    tab.click("#go")
    expect(tab.locator("#status")).to_contain_text("of 240 s of music")
    tab.click("#stop")
    expect(tab.locator("#status")).to_contain_text("Cancelled")
    expect(tab.locator("#go")).to_be_enabled()
    choose(tab, "duration", 1)
    generate(tab, "short")


def test_a_queued_request_can_be_cancelled(visit):
    busy, waiting = visit(), visit()
    for tab, words in ((busy, "endless"), (waiting, "too late")):
        choose(tab, "duration", 60)
        tab.locator("#text textarea").fill(words)
        tab.click("#go")
        expect(tab.locator("#stop")).to_be_enabled()
    expect(busy.locator("#status")).to_contain_text("of 120 s of music")
    expect(waiting.locator("#status")).to_contain_text("queue")
    waiting.click("#stop")
    expect(waiting.locator("#status")).to_contain_text("Cancelled")
    expect(busy.locator("#status")).to_contain_text("of 120 s of music")
    busy.click("#stop")
    choose(waiting, "duration", 1)
    generate(waiting, "in time")


def test_two_visitors_can_generate_at_once(visit):
    tabs = [visit(), visit()]
    for number, tab in enumerate(tabs):
        choose(tab, "duration", 3)
        tab.locator("#text textarea").fill(f"visitor {number}")
    for tab in tabs:
        tab.click("#go")
    for number, tab in enumerate(tabs):
        expect(tab.locator("#status")).to_contain_text(f"visitor {number}")
        expect(tab.locator("#player-1")).to_be_visible()


def test_bad_input_gives_a_message_and_the_page_keeps_working(visit, tmp_path):
    tab = visit()
    bad = {
        "is silent": (np.zeros(48000), 16000, "PCM_16"),
        "not finite": (np.full(48000, np.nan), 16000, "FLOAT"),
        "holds no audio": (np.zeros(0), 16000, "PCM_16"),
        "lasts 3 hours": (tone(3 * 3600, 1000), 1000, "PCM_U8"),
        "choose a shorter excerpt": (tone(1), 16000, "PCM_16"),
    }
    for sentence, (samples, rate, subtype) in bad.items():
        upload(tab, write(tmp_path / f"{sentence}.wav", samples, rate, subtype))
        expect(tab.locator("#picture [role=alert]")).to_contain_text(sentence)
        assert str(tmp_path) not in tab.locator("#picture").inner_text()
        tab.click("#go")
        expect(tab.locator(".toast-body").last).to_contain_text(sentence)
        expect(tab.locator("#go")).to_be_enabled()
        tab.locator("button.toast-close").last.click()
        tab.locator("#clip button[aria-label='Clear']").click()
        expect(tab.locator("#picture [role=alert]")).to_have_count(0)
    video = tmp_path / "video.mp4"
    video.touch()
    upload(tab, video)
    expect(tab.locator(".toast-body").last).to_contain_text("Invalid file type: video.mp4")
    tab.locator("button.toast-close").last.click()
    tab.locator("#text textarea").fill("🎷" * 10_000)
    tab.click("#go")
    expect(tab.locator(".toast-body").last).to_contain_text("maximum is 2,000")
    tab.locator("button.toast-close").last.click()
    upload(tab, write(tmp_path / "coarse.wav", tone(4, 1000), 1000, "PCM_U8"))
    expect(tab.locator("#picture figure")).to_be_visible()
    choose(tab, "duration", 1)
    generate(tab, "🎷🔥")


def test_only_uploads_are_read_or_served(visit, server):
    tab = visit()
    request = tab.context.request
    secrets = ["/etc/passwd", str(ROOT / "setup.py"), "../../../etc/passwd", str(server.log)]
    for path in secrets:
        answer = request.get(f"{server.url}/gradio_api/file={path}")
        assert answer.status in (403, 404), path
    configuration = request.get(f"{server.url}/config").json()
    ids = {c["props"].get("elem_id"): c["id"] for c in configuration["components"]}
    (show_clip,) = (
        dependency["id"]
        for dependency in configuration["dependencies"]
        if [ids["clip"], "change"] in dependency["targets"]
    )
    song = {"path": str(ROOT / "assets" / "electronic.mp3"), "meta": {"_type": "gradio.FileData"}}
    body = {"data": [song, 0, 3], "fn_index": show_clip, "session_hash": "thief"}
    assert request.post(f"{server.url}/gradio_api/queue/join", data=body).ok
    answer = request.get(f"{server.url}/gradio_api/queue/data?session_hash=thief").text()
    events = [json.loads(line[5:]) for line in answer.splitlines() if line.startswith("data:")]
    assert [e["success"] for e in events if e["msg"] == "process_completed"] == [False]
    assert "it was not uploaded by a user" in server.log.read_text()


def test_nothing_is_served_without_the_password(chromium, server):
    context = chromium.new_context()
    for path in ("/config", "/gradio_api/file=/etc/passwd"):
        assert context.request.get(server.url + path).status == 401
    wrong = context.request.post(f"{server.url}/login", form=USER | {"password": "wrong"})
    assert wrong.status == 400
    tab = context.new_page()
    tab.goto(server.url)
    tab.get_by_label("username").fill(USER["username"])
    tab.get_by_label("password").fill(USER["password"])
    assert tab.locator("#go").count() == 0
    tab.get_by_role("button", name="Login").click()
    tab.wait_for_selector("#go")
    context.close()


def test_the_page_fits_a_phone(visit, pictures):
    tab = visit(400)
    upload(tab, ROOT / "dataset" / "example" / "funk_01.mp3")
    expect(tab.locator("#picture figure")).to_be_visible()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 400
    photograph(tab, pictures / "demo_phone.png")


def test_a_stopped_server_leaves_no_files(server):
    assert len(server.files) == 1
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(30) == 0
    assert server.files == []
