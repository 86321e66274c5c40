"""The work behind the page: wishes become pieces, kept for as long as their visitor stays."""

import dataclasses
import errno
import os
import shutil
import tempfile
import threading
import time
import typing as tp
from dataclasses import dataclass, field
from pathlib import Path

import torch

from audiocraft.errors import ConfigError
from audiocraft.inference.generator import Maker, Piece, write_piece
from audiocraft.inference.prompts import as_name
from audiocraft.inference.request import Request
from audiocraft.utils.pictures import plot_audio, save_figure

from .clips import Clip, latest_start, look_at
from .sentences import Cancelled

MOST = 4  # variations
LONGEST = 60.0  # seconds
KEPT = 30  # takes of a session; older ones are forgotten

Report = tp.Callable[[float, float], None]  # seconds of music that are done, and of all


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the page asks for."""

    text: str | None
    clip: str | None  # path of an uploaded or bundled file
    start: float | None  # second of the clip
    count: int
    seed: int | str | None  # nothing draws one
    duration: float
    excerpt_length: float
    style_detail: int
    guidance: float
    text_weight: float


class File(tp.NamedTuple):
    """The files of a piece."""

    audio: Path
    picture: Path
    recipe: Path


class Take(tp.NamedTuple):
    """What one wish became."""

    title: str
    details: str
    files: list[File]


@dataclass
class Session:
    """What one visitor has looked at and made."""

    folder: Path
    takes: list[Take] = field(default_factory=list)  # the newest last
    cancelled: threading.Event = field(default_factory=threading.Event)
    clip: Clip | None = None  # the last that was looked at
    drawn: tuple[Path, float] | None = None  # the clip in the picture, latest start of an excerpt

    def look_at(self, path: Path) -> Clip:
        """A clip, read once."""
        if self.clip is None or self.clip.path != path:
            self.clip = look_at(path)
        return self.clip


class Sessions:
    """The visitors of a server, by the name that the page gives each open tab.

    Args:
        folder: Where their pieces lie. Names of visitors never become part of a path.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def of(self, name: str | None) -> Session:
        """A visitor's session, new at the first visit."""
        with self._lock:
            key = name or ""
            if key not in self._sessions:
                self._sessions[key] = Session(Path(tempfile.mkdtemp(dir=self.folder)))
            return self._sessions[key]

    def forget(self, name: str | None) -> None:
        """End what a visitor waits for, and delete the files."""
        with self._lock:
            session = self._sessions.pop(name or "", None)
        if session is not None:
            session.cancelled.set()
            shutil.rmtree(session.folder, ignore_errors=True)


class Studio:
    """One model, which serves one wish after the other.

    Args:
        maker: The model.
    """

    def __init__(self, maker: Maker):
        self.maker = maker
        self._lock = threading.Lock()

    def make(self, wish: Wish, session: Session, report: Report) -> Take:
        """Fulfil a wish.

        Args:
            wish: What is asked for.
            session: Whose it is; the take is appended.
            report: Told how far it is.

        Raises:
            Cancelled: `session.cancelled` was set meanwhile.
            AudiocraftError: The wish cannot be fulfilled.
            OSError: The disk does not take the files.
        """
        cancelled = session.cancelled = threading.Event()
        if wish.clip is not None:
            latest_start(session.look_at(Path(wish.clip)), wish.excerpt_length)
        wanted = requests_of(wish)
        total = wish.duration * wish.count

        def tell(done: float) -> None:
            if cancelled.is_set():
                raise Cancelled
            report(done, total)

        with self._lock:
            tell(0.0)
            requests = [self.maker.check(request) for request in wanted]  # sets the model up
            pieces = list(self.maker.make(requests, wish.count, tell))
        tell(total)
        take = keep(pieces, wish, session.folder)
        session.takes.append(take)
        for old in session.takes[:-KEPT]:
            shutil.rmtree(old.files[0].audio.parent, ignore_errors=True)
        del session.takes[:-KEPT]
        return take


def requests_of(wish: Wish) -> list[Request]:
    """A request for each variation.

    Raises:
        ConfigError: The wish is empty, or too large.
    """
    text = (wish.text or "").strip() or None
    if text is None and wish.clip is None:
        raise ConfigError("Describe the music, or give a clip in whose style it shall be, or both.")
    if not 1 <= wish.count <= MOST:
        raise ConfigError(f"There can be 1 to {MOST} variations, not {wish.count}.")
    if not 0 < wish.duration <= LONGEST:
        raise ConfigError(
            f"A piece can last up to {LONGEST:g} s here, not {wish.duration:g} s. "
            "`python -m audiocraft generate` makes longer ones."
        )
    seed = tp.cast(int, torch.seed() % 10**6 if wish.seed in (None, "") else wish.seed)
    first = Request(
        text=text,
        style=wish.clip,
        seed=seed,
        duration=wish.duration,
        guidance=wish.guidance,
        text_weight=wish.text_weight,
        style_detail=wish.style_detail,
        excerpt_length=wish.excerpt_length,
        excerpt_start=wish.start,
    )
    return [dataclasses.replace(first, seed=first.seed + index) for index in range(wish.count)]


def keep(pieces: tp.Sequence[Piece], wish: Wish, folder: Path) -> Take:
    """Write pieces into a new folder, all of them or none."""
    request = pieces[0].recipe.request
    clip = None if request.style is None else Path(request.style).name
    ours = Path(tempfile.mkdtemp(dir=folder))
    try:
        files = [_write(piece, clip, ours) for piece in pieces]
        copies = sum(path.stat().st_size for file in files for path in file)
        if shutil.disk_usage(ours).free < copies:  # Gradio serves copies
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(ours))
    except BaseException:
        shutil.rmtree(ours, ignore_errors=True)
        raise
    parts = [part for part in (request.text, clip and f"in the style of {clip}") if part]
    return Take(" ".join(parts), _details(request, clip, wish.count), files)


def _write(piece: Piece, clip: str | None, folder: Path) -> File:
    request = piece.recipe.request
    name = f"{as_name(request.text or Path(clip or 'free').stem)}_{request.seed}"
    # The visitor has the clip somewhere else: `--style` says where.
    recipe = dataclasses.replace(piece.recipe, request=dataclasses.replace(request, style=clip))
    audio = write_piece(folder, name, Piece(piece.wav, recipe))
    picture = folder / f"{name}.png"
    save_figure(plot_audio(piece.wav, recipe.sample_rate), picture)
    return File(audio, picture, folder / f"{name}.json")


def _details(request: Request, clip: str | None, count: int) -> str:
    """How a take was made, in a line."""
    last = request.seed + count - 1
    seeds = f"seed {request.seed}" if count == 1 else f"seeds {request.seed} to {last}"
    parts = [time.strftime("%H:%M"), f"{request.duration:g} s", seeds]
    parts.append(f"guidance {request.guidance:g}")
    if clip is not None:
        if request.text:
            parts.append(f"text weight {request.text_weight:g}")
        parts.append(f"style detail {request.style_detail}")
        start = tp.cast(float, request.excerpt_start)
        parts.append(f"heard {start:g} to {start + request.excerpt_length:g} s")
    return " · ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts)
