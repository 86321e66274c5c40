"""Model downloads from a hub, which is a local HTTP server here."""

import fcntl
import functools
import http.server
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest

from audiocraft.cli.export import export_model

from .conftest import REVISION

MODEL = "someone/tiny-style"
SCRIPT = f"""
from audiocraft.models import MusicGen
model = MusicGen.get_pretrained({MODEL!r}, device="cpu")
print("ready:", model.lm.num_codebooks)
"""


class Hub(http.server.BaseHTTPRequestHandler):
    """Files of `folder/OWNER/MODEL/`, with the headers that huggingface_hub reads."""

    protocol_version = "HTTP/1.1"
    requests: list[str]

    def __init__(self, *args, folder: Path, requests: list[str]):
        self.folder, self.requests = folder, requests
        super().__init__(*args)

    def answer(self, with_content: bool) -> None:
        repo_id, _, filename = self.path.strip("/").partition("/resolve/main/")
        file = self.folder / repo_id / filename
        exists = bool(filename) and file.is_file()
        content = file.read_bytes() if exists else b""
        self.send_response(200 if exists else 404)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", REVISION)
        if exists:
            self.send_header("ETag", f'"{len(content):040x}"')
            self.send_header("Content-Disposition", f'attachment; filename="{filename}";')
        else:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()
        if filename:
            self.requests.append(f"{self.command} {filename}")
        if with_content:
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        self.answer(with_content=False)

    def do_GET(self) -> None:
        self.answer(with_content=True)

    def log_message(self, format, *args) -> None:
        """Logs nothing."""


@pytest.fixture
def served(checkpoint, tmp_path):
    """The tiny model on a hub: its address and the list of file requests."""
    export_model(str(checkpoint), tmp_path / "hub" / MODEL, ".bin")
    requests: list[str] = []
    handler = functools.partial(Hub, folder=tmp_path / "hub", requests=requests)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", requests
        server.shutdown()


def run_in_terminal(environment: dict[str, str]) -> str:
    """Output of `SCRIPT` in a terminal of 100 columns."""
    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdin=inside, stdout=inside, stderr=inside, env=environment
    )
    os.close(inside)
    shown = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # end of a terminal on Linux
            part = b""
        if not part:
            break
        shown += part
    os.close(terminal)
    child.wait()
    return shown.decode()


@pytest.mark.slow
def test_model_is_downloaded_once_with_a_progress_bar(served, tmp_path):
    address, requests = served
    cache = tmp_path / "cache"
    environment = os.environ | {
        "HF_ENDPOINT": address,
        "AUDIOCRAFT_CACHE_DIR": str(cache),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    shown = run_in_terminal(environment)
    assert "ready: 4" in shown
    for filename in ("state_dict.bin", "compression_state_dict.bin"):
        assert f"\r{filename}: 100%|" in shown
        assert requests.count(f"GET {filename}") == 1
        assert list(cache.glob(f"models--*/snapshots/{REVISION}/{filename}"))
    requests.clear()
    shown = run_in_terminal(environment)
    assert "ready: 4" in shown
    assert "%|" not in shown
    assert not requests
