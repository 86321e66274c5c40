"""Joined streams: boundaries of Ogg or MP3 files that were concatenated (chained) to one file.

Decoders read only the first or the last of them without an error. Each is decoded as a file of its
own, a window of the whole.
"""

import io
import os
import typing as tp

OGG_PAGE = 27 + 255 + 255 * 255  # bytes, maximum size of a page
FIRST, LAST = 2, 4  # flags of Ogg pages
TAG_HEADER, ID3V1_SIZE = 10, 128  # bytes
MP3_MARKS = (b"Xing", b"Info")
BYTES_FLAG = 2  # of a Xing header: the size of the stream follows


class Window(io.RawIOBase):
    """A part of a file as a file, with a read position of its own."""

    def __init__(self, file: tp.BinaryIO, start: int, stop: int):
        self._file, self._start, self._size = file, start, stop - start
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def readinto(self, buffer: tp.Any) -> int:
        self._file.seek(self._start + self._position)
        content = self._file.read(min(len(buffer), max(0, self._size - self._position)))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)


def find_streams(file: tp.BinaryIO) -> list[tuple[int, int]]:
    """Find the streams of a file.

    Args:
        file: A seekable file; its position is moved.

    Returns:
        First byte and end of each stream; empty if the file is not a series of streams.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(4)
    starts = _ogg_starts(file, size) if head == b"OggS" else _mp3_starts(file, size)
    return list(zip(starts, [*starts[1:], size])) if len(starts) > 1 else []


def _ogg_starts(file: tp.BinaryIO, size: int) -> list[int]:
    """First byte of each chained stream; reads all page headers only if there are several."""
    initial, position = set(), 0
    while (page := _read_ogg_page(file, position)) and page.flags & FIRST:
        initial.add(page.serial)
        position = page.stop
    file.seek(max(0, size - OGG_PAGE))
    tail = file.read(OGG_PAGE)
    last = tail.rfind(b"OggS")
    page = _read_ogg_page(file, max(0, size - OGG_PAGE) + last) if last >= 0 else None
    if page is None or page.serial in initial:
        return [0]
    starts, position, was_first = [], 0, False
    while page := _read_ogg_page(file, position):
        is_first = bool(page.flags & FIRST)
        if is_first and not was_first:
            starts.append(position)
        position, was_first = page.stop, is_first
    return starts


class _OggPage(tp.NamedTuple):
    flags: int
    serial: int
    stop: int  # first byte after the page


def _read_ogg_page(file: tp.BinaryIO, position: int) -> _OggPage | None:
    file.seek(position)
    header = file.read(27 + 255)
    if header[:4] != b"OggS" or len(header) < 27:
        return None
    num_segments = header[26]
    length = 27 + num_segments + sum(header[27 : 27 + num_segments])
    return _OggPage(header[5], int.from_bytes(header[14:18], "little"), position + length)


def _mp3_starts(file: tp.BinaryIO, size: int) -> list[int]:
    """First byte of each joined MP3 file, by the sizes in their Xing headers."""
    starts, position = [], 0
    while position < size and (stop := _mp3_stop(file, position)) is not None:
        starts.append(position)
        position = stop
    return starts


def _mp3_stop(file: tp.BinaryIO, position: int) -> int | None:
    """End of an MP3 file by its Xing header; `None` if there is no such header."""
    file.seek(position)
    if file.read(3) == b"TAG":  # ID3v1, at the end of the file before
        position += ID3V1_SIZE
    frame = position + id3_size(file, position)
    file.seek(frame)
    head = file.read(256)
    mark = max(head.find(mark) for mark in MP3_MARKS)
    if head[:1] != b"\xff" or mark < 0 or not head[mark + 7] & BYTES_FLAG:
        return None
    offset = mark + (12 if head[mark + 7] & 1 else 8)  # after the number of frames
    stop = frame + int.from_bytes(head[offset : offset + 4], "big")
    return stop if stop > frame else None


def id3_size(file: tp.BinaryIO, position: int) -> int:
    """Size of the ID3v2 tag at a position, in bytes; 0 if there is none."""
    file.seek(position)
    head = file.read(TAG_HEADER)
    if head[:3] != b"ID3" or len(head) < TAG_HEADER:
        return 0
    # The size is four bytes of seven bits.
    return TAG_HEADER + sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0)))
