"""Generation service of the page, and the sessions of its visitors."""

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
from audiocraft.inference.prompts import slugify
from audiocraft.inference.request import Request
from audiocraft.inference.sample_generator import Sample, SampleGenerator, write_sample
from audiocraft.utils.pictures import plot_audio, save_figure

from .clips import StyleClip, inspect_clip, max_start
from .error_messages import Cancelled

MAX_VARIATIONS = 4
MAX_DURATION = 60.0  # seconds
MAX_RESULTS = 30  # per session; older ones are deleted

ProgressCallback = tp.Callable[[float, float], None]  # seconds of audio: generated so far, total


@dataclass(frozen=True, kw_only=True)
class FormValues:
    """Values of the form on the page, by the ids of its fields."""

    text: str | None
    clip: str | None  # path of an uploaded or bundled file
    start: float | None  # of the excerpt, in seconds; None selects it by the seed
    count: int
    seed: int | str | None  # None or "" draws one
    duration: float
    excerpt_length: float
    style_detail: int
    guidance: float
    text_weight: float


class SampleFiles(tp.NamedTuple):
    """Files of one sample."""

    audio: Path
    picture: Path
    recipe: Path


class Result(tp.NamedTuple):
    """Samples generated from one submission of the form."""

    title: str
    details: str
    files: list[SampleFiles]


@dataclass
class Session:
    """State of one visitor."""

    folder: Path
    results: list[Result] = field(default_factory=list)  # newest last
    cancelled: threading.Event = field(default_factory=threading.Event)
    clip: StyleClip | None = None  # last inspected clip
    drawn: tuple[Path, float] | None = None  # clip in the picture, latest start of an excerpt

    def inspect_clip(self, path: Path) -> StyleClip:
        """Inspect a clip; the last one is cached."""
        if self.clip is None or self.clip.path != path:
            self.clip = inspect_clip(path)
        return self.clip


class SessionStore:
    """Sessions by the key that the page gives each open tab.

    Args:
        folder: Folder of the generated files. Keys never become part of a path.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def get(self, key: str | None) -> Session:
        """Return the session of a key, created on first use."""
        with self._lock:
            key = key or ""
            if key not in self._sessions:
                self._sessions[key] = Session(Path(tempfile.mkdtemp(dir=self.folder)))
            return self._sessions[key]

    def remove(self, key: str | None) -> None:
        """Cancel what a visitor waits for, and delete the files."""
        with self._lock:
            session = self._sessions.pop(key or "", None)
        if session is not None:
            session.cancelled.set()
            shutil.rmtree(session.folder, ignore_errors=True)


class GenerationService:
    """One model that serves one request at a time.

    Args:
        sample_generator: The loaded model.
    """

    def __init__(self, sample_generator: SampleGenerator):
        self.sample_generator = sample_generator
        self._lock = threading.Lock()

    def generate(self, form: FormValues, session: Session, progress: ProgressCallback) -> Result:
        """Generate the samples that the form describes, and append them to the session.

        Args:
            form: Values of the form.
            session: Session of the visitor.
            progress: Called with the seconds of audio generated so far, and of all.

        Raises:
            Cancelled: `session.cancelled` was set meanwhile.
            AudiocraftError: The values cannot be used.
            OSError: The files cannot be written.
        """
        cancelled = session.cancelled = threading.Event()
        if form.clip is not None:
            max_start(session.inspect_clip(Path(form.clip)), form.excerpt_length)
        unchecked = build_requests(form)
        total = form.duration * form.count

        def report(done: float) -> None:
            if cancelled.is_set():
                raise Cancelled
            progress(done, total)

        with self._lock:
            report(0.0)
            requests = [self.sample_generator.check(request) for request in unchecked]
            samples = list(self.sample_generator.generate(requests, form.count, report))
        report(total)
        result = write_result(samples, form, session.folder)
        session.results.append(result)
        for old in session.results[:-MAX_RESULTS]:
            shutil.rmtree(old.files[0].audio.parent, ignore_errors=True)
        del session.results[:-MAX_RESULTS]
        return result


def build_requests(form: FormValues) -> list[Request]:
    """Return a request for each variation.

    Raises:
        ConfigError: The form is empty, or exceeds the limits of the page.
    """
    text = (form.text or "").strip() or None
    if text is None and form.clip is None:
        raise ConfigError("Describe the music, or give a clip as an example of its style, or both.")
    if not 1 <= form.count <= MAX_VARIATIONS:
        raise ConfigError(f"There can be 1 to {MAX_VARIATIONS} variations, not {form.count}.")
    if not 0 < form.duration <= MAX_DURATION:
        raise ConfigError(
            f"A variation can last up to {MAX_DURATION:g} s here, not {form.duration:g} s. "
            "The command `audiocraft generate` makes longer ones."
        )
    seed = tp.cast(int, torch.seed() % 10**6 if form.seed in (None, "") else form.seed)
    first = Request(
        text=text,
        style=form.clip,
        seed=seed,
        duration=form.duration,
        guidance=form.guidance,
        text_weight=form.text_weight,
        style_detail=form.style_detail,
        excerpt_length=form.excerpt_length,
        excerpt_start=form.start,
    )
    return [dataclasses.replace(first, seed=first.seed + index) for index in range(form.count)]


def write_result(samples: tp.Sequence[Sample], form: FormValues, folder: Path) -> Result:
    """Write samples to a new folder, all of them or none."""
    request = samples[0].recipe.request
    clip = None if request.style is None else Path(request.style).name
    result_folder = Path(tempfile.mkdtemp(dir=folder))
    try:
        files = [_write(sample, clip, result_folder) for sample in samples]
        copies = sum(path.stat().st_size for file in files for path in file)
        if shutil.disk_usage(result_folder).free < copies:  # Gradio serves copies
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(result_folder))
    except BaseException:
        shutil.rmtree(result_folder, ignore_errors=True)
        raise
    parts = [part for part in (request.text, clip and f"in the style of {clip}") if part]
    return Result(" ".join(parts), _details(request, clip, form.count), files)


def _write(sample: Sample, clip: str | None, folder: Path) -> SampleFiles:
    request = sample.recipe.request
    name = f"{slugify(request.text or Path(clip or 'free').stem)}_{request.seed}"
    # The recipe names the clip without the server's folder; `generate --style` gives the path.
    recipe = dataclasses.replace(sample.recipe, request=dataclasses.replace(request, style=clip))
    audio = write_sample(folder, name, Sample(sample.wav, recipe))
    picture = folder / f"{name}.png"
    save_figure(plot_audio(sample.wav, recipe.sample_rate), picture)
    return SampleFiles(audio, picture, folder / f"{name}.json")


def _details(request: Request, clip: str | None, count: int) -> str:
    """Return the settings of a result in one line."""
    last = request.seed + count - 1
    seeds = f"seed {request.seed}" if count == 1 else f"seeds {request.seed} to {last}"
    parts = [time.strftime("%H:%M"), f"{request.duration:g} s", seeds]
    parts.append(f"guidance {request.guidance:g}")
    if clip is not None:
        if request.text:
            parts.append(f"text weight {request.text_weight:g}")
        parts.append(f"style detail {request.style_detail}")
        start = tp.cast(float, request.excerpt_start)
        parts.append(f"excerpt {start:g} to {start + request.excerpt_length:g} s")
    return " · ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts)
