"""Server of the page and a browser session for tests."""

import os
import shutil
import socket
import subprocess
import sys
import time
import typing as tp
from contextlib import contextmanager
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra `dev`)")
expect = playwright.expect

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NEEDED = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--use-fake-device-for-media-stream",  # a microphone that plays a beep
    "--use-fake-ui-for-media-stream",
]
USER = {"username": "ada", "password": "lovelace"}
PATIENCE = 60_000  # milliseconds
expect.set_options(timeout=PATIENCE)


class Server:
    """Server of the page, started as users start it, with a password."""

    def __init__(self, folder: Path, model: str = "//bundled/musicgen_style_tiny", **env: str):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self.log = folder / "log.txt"
        words = ["--model", model, "--server_port", str(self.port)]
        words += [word for name, value in USER.items() for word in (f"--{name}", value)]
        own = {"OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "demos.musicgen_style_app", *words],
                cwd=ROOT,
                env=os.environ | own | env,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> "Server":
        end = time.monotonic() + 60
        while "Running on local URL" not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.2)
        return self

    def __exit__(self, *exception) -> None:
        self.process.terminate()
        self.process.wait(30)

    @property
    def files(self) -> list[Path]:
        return list(self.folder.glob("audiocraft_page_*"))

    @property
    def sessions(self) -> list[Path]:
        return list(self.folder.glob("audiocraft_page_*/sessions/*"))


@contextmanager
def started_chromium() -> tp.Iterator:
    """Headless browser."""
    with playwright.sync_playwright() as api:
        browser = api.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def visitors(chromium, server: Server) -> tp.Iterator[tp.Callable]:
    """Function that opens tabs of a logged-in visitor; external requests are blocked."""
    contexts, left = [], []

    def arrive(width: int = 1280):
        context = chromium.new_context(viewport={"width": width, "height": 900})
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        context.on("request", lambda request: left.append(request.url))
        assert context.request.post(f"{server.url}/login", form=USER).ok
        tab = context.new_page()
        tab.goto(server.url)
        tab.wait_for_selector("#go")
        return tab

    yield arrive
    for context in contexts:
        context.close()
    assert left
    assert [url for url in left if not url.startswith((server.url, "data:", "blob:"))] == []


def upload(tab, clip: Path) -> None:
    tab.locator("#clip input[type=file]").set_input_files(clip)


def choose(tab, name: str, value: float) -> None:
    """Enter a number next to a slider."""
    tab.locator(f"#{name} input[type=number]").fill(str(value))
    tab.locator(f"#{name} input[type=number]").blur()


def generate(tab, text: str) -> None:
    tab.locator("#text textarea").fill(text)
    tab.click("#go")
    expect(tab.locator("#status")).to_contain_text(text)
