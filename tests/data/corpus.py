"""Corpus of invalid and unusual files: damaged, mislabelled, malicious."""

import io
import os
import struct
import zipfile
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
import torch

from audiocraft.data.audio import audio_write

from .conftest import tone

RATE = 16000
SECONDS = 1.5
FORMATS = ("wav", "flac", "aiff", "ogg", "mp3", "m4a", "opus")


@cache
def encoded(kind: str, seconds: float = SECONDS) -> bytes:
    """Bytes of a short stereo file in a format."""
    rate = 48000 if kind == "opus" else RATE
    wav = torch.from_numpy(tone(seconds, rate=rate, channels=2)).t()
    with TemporaryDirectory() as folder:
        path = audio_write(Path(folder) / "a", wav, rate, kind, mp3_rate=64, strategy="clip")
        return path.read_bytes()


def float_wav(samples: np.ndarray) -> bytes:
    """Bytes of a float WAV file with samples `[T, C]`, finite or not."""
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, "FLOAT", format="WAV")
    return file.getvalue()


def wav_with_header(rate: int = RATE, channels: int = 1, size: int = 8000) -> bytes:
    """Bytes of a WAV file whose header may be wrong; its data has 8000 bytes."""
    align = 2 * channels & 0xFFFF
    per_second = rate * align & 0xFFFFFFFF
    chunk = struct.pack("<HHIIHH", 1, channels, rate, per_second, align, 16)
    start = b"RIFF" + struct.pack("<I", 0xFFFFFFFF) + b"WAVEfmt " + struct.pack("<I", 16)
    return start + chunk + b"data" + struct.pack("<I", size) + bytes(8000)


def patched(content: bytes, position: int, new: bytes) -> bytes:
    return content[:position] + new + content[position + len(new) :]


def ogg_pages(content: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """Pages of an Ogg file: header of 26 bytes, lacing values, body."""
    pages, at = [], 0
    while at < len(content):
        end = at + 27 + content[at + 26]
        lacing = content[at + 27 : end]
        pages.append((content[at : at + 26], lacing, content[end : end + sum(lacing)]))
        at = end + sum(lacing)
    return pages


def join_ogg_pages(pages: list[tuple[bytes, bytes, bytes]]) -> bytes:
    """Bytes of an Ogg file with the given pages, numbered and with checksums."""
    content = b""
    for number, (header, lacing, body) in enumerate(pages):
        page = header[:18] + struct.pack("<II", number, 0) + bytes([len(lacing)]) + lacing + body
        content += patched(page, 22, struct.pack("<I", ogg_checksum(page)))
    return content


def ogg_checksum(page: bytes) -> int:
    checksum = 0
    for byte in page:
        checksum ^= byte << 24
        for _ in range(8):
            checksum = (checksum << 1 ^ 0x04C11DB7 * (checksum >> 31)) & 0xFFFFFFFF
    return checksum


def headers_twice(content: bytes) -> bytes:
    """Bytes of an Ogg file with repeated headers, as some encoders write."""
    first, second, *rest = ogg_pages(content)
    again = (patched(first[0], 5, b"\0"), first[1] + second[1], first[2] + second[2])
    return join_ogg_pages([first, second, again, *rest])


def damaged_files() -> dict[str, bytes]:
    """Files that contain no decodable audio, by name."""
    files = {
        "nothing.wav": b"",
        "zeros.mp3": bytes(5000),
        "text.mp3": b"This is no music at all. " * 300,
        "page.ogg": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "picture.flac": b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(range(256)) * 8,
        "playlist.mp3": b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\ngood_0.wav\n",
        "concat.mp3": b"ffconcat version 1.0\nfile good_0.wav\n",
        "session.m4a": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=audio 5004 RTP/AVP 0\n",
        "no_rate.wav": wav_with_header(rate=0),
        "giant_rate.wav": wav_with_header(rate=0xFFFFFFFF),
        "no_channels.wav": wav_with_header(channels=0),
        "giant_channels.wav": wav_with_header(channels=0xFFFF),
        "noise.raw": bytes(range(256)) * 20,
    }
    return files | {f"head.{kind}": encoded(kind)[:20] for kind in FORMATS}


def nonfinite_files() -> dict[str, bytes]:
    """Files that decode to NaN or infinite samples, by name."""
    one = tone(SECONDS, rate=RATE)
    one[1000:] = np.nan
    return {"nan.wav": float_wav(one), "infinite.wav": float_wav(np.full_like(one, np.inf))}


def unusual_files() -> dict[str, bytes]:
    """Files with a defect or an unusual property that are at least partly decodable."""
    longer = {
        kind: encoded(kind, 9.0) for kind in FORMATS if kind != "m4a"
    }  # its index is at the end
    files = {f"cut.{kind}": content[: len(content) * 3 // 4] for kind, content in longer.items()}
    flac = encoded("flac")
    many = np.repeat(tone(SECONDS, rate=RATE), 64, axis=1)
    return files | {
        "flac_inside.wav": flac,
        "m4a_inside.mp3": encoded("m4a"),
        "giant_length.flac": patched(flac, 21, bytes([flac[21] | 0x0F]) + b"\xff" * 4),
        "no_length.wav": wav_with_header(size=0),
        "giant_length.wav": wav_with_header(size=0xFFFFFFFF),
        "headers_twice.ogg": headers_twice(encoded("ogg")),
        "channels_64.wav": float_wav(many),
        "long_tag.mp3": b"ID3\x04\0\0\0\0\x7f\x7f" + bytes(127 * 129) + encoded("mp3"),
    }


def write_corpus(folder: Path) -> None:
    """Write all of these and special files; `good_0.wav` to `good_3.wav` are valid."""
    for name, content in (damaged_files() | nonfinite_files() | unusual_files()).items():
        (folder / name).write_bytes(content)
    for number in range(4):
        soundfile.write(folder / f"good_{number}.wav", tone(SECONDS, 200.0 + number, RATE), RATE)
    soundfile.write(
        os.fsencode(folder) + b"/\xff\xe9 not utf8.wav", tone(SECONDS, 1000.0, RATE), RATE
    )
    soundfile.write(folder / "new\nline.wav", tone(SECONDS, 1500.0, RATE), RATE)
    (folder / "folder.wav").mkdir()
    os.mkfifo(folder / "pipe.wav")
    (folder / "device.wav").symlink_to("/dev/zero")
    (folder / "nowhere.wav").symlink_to(folder / "gone.wav")
    (folder / "circle.wav").symlink_to(folder / "circle.wav")
    (folder / "inside").mkdir()
    (folder / "inside" / "up").symlink_to(folder)
    with zipfile.ZipFile(folder / "evil.zip", "w") as archive:
        archive.writestr("../escaped.wav", encoded("wav"))
        archive.writestr("/tmp/absolute.wav", encoded("wav"))
        archive.writestr("text.wav", "no music")
    (folder / "broken.zip").write_bytes((folder / "evil.zip").read_bytes()[:-40])


# Files that cannot be read, in addition to `damaged_files`.
NO_FILES = ("folder.wav", "pipe.wav", "device.wav", "nowhere.wav", "circle.wav", "missing.wav")
NO_MEMBERS = ("evil.zip:text.wav", "evil.zip:none.wav", "broken.zip:text.wav")
UNREADABLE = (*damaged_files(), *NO_FILES, *NO_MEMBERS)
UNUSUAL = (
    *unusual_files(),
    os.fsdecode(b"\xff\xe9 not utf8.wav"),
    "new\nline.wav",
    "evil.zip:../escaped.wav",
)
