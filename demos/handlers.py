"""What happens when something on the page is touched.

Whatever goes wrong becomes a sentence on the page; the server goes on.
"""

import functools
import html
import shutil
import typing as tp
from pathlib import Path

import gradio as gr

from audiocraft.errors import ConfigError

from .clips import bundled_clips, draw_clip, max_start
from .sentences import Cancelled, error_message
from .sessions import MAX_VARIATIONS, FormValues, GenerationService, Result, SessionStore

PROGRESS = gr.Progress()  # Gradio fills it in, for each call
ERROR_SECONDS = 12  # seconds; sentences that stay would pile up over the buttons
OUTPUTS_PER_SAMPLE = 5  # outputs: column, player, picture, two downloads


def shows_errors(handler: tp.Callable) -> tp.Callable:
    """A handler whose errors visitors can read."""

    @functools.wraps(handler)
    def wrapped(*args, **kwargs):
        try:
            return handler(*args, **kwargs)
        except gr.Error:
            raise
        except Exception as error:
            raise page_error(error_message(error)) from None

    return wrapped


def page_error(sentence: str) -> gr.Error:
    """A sentence as Gradio shows it."""
    return gr.Error(sentence, duration=ERROR_SECONDS, print_exception=False)


class Handlers:
    """The page's reactions.

    Args:
        studio: The model.
        sessions: The visitors.
        folder: Below it lie uploads; nothing else is ever read for a visitor.
    """

    def __init__(self, service: GenerationService, sessions: SessionStore, folder: Path):
        self.service = service
        self.sessions = sessions
        self.folder = folder.resolve()

    @shows_errors
    def choose_bundled(self, name: str | None, request: gr.Request):
        """A bundled clip, as if it had been uploaded."""
        if not name:
            return gr.skip()
        clips = bundled_clips()
        if name not in clips:
            raise ConfigError(f"There is no bundled clip {name!r}. Choose: {', '.join(clips)}.")
        folder = self.sessions.get(request.session_hash).folder
        return shutil.copy(clips[name], folder / clips[name].name)

    def show_clip(self, clip: str | None, start: float, length: float, request: gr.Request):
        """The picture of the clip, or why there is none; and the slider of the start.

        A new clip is heard in its middle, another excerpt of the same from the same place if it
        fits. The slider is left alone unless it has to change: somebody may be moving it.
        """
        session = self.sessions.get(request.session_hash)
        before, session.drawn = session.drawn, None
        if clip is None:
            return "", gr.Slider(visible=False)
        path = Path(clip)
        try:
            looked_at = session.inspect_clip(self._ours(path))
            latest = max_start(looked_at, length)
        except Exception as error:
            words = error_message(error, path)
            return f'<p class="sorry" role="alert">{words}</p>', gr.Slider(visible=False)
        session.drawn = drawn = (path, latest)
        is_new = before is None or before[0] != path
        start = round(latest / 2, 1) if is_new else min(max(start, 0.0), latest)
        slider = gr.Slider(value=start, maximum=max(latest, 0.1), visible=latest > 0)
        return draw_clip(looked_at, start, length), gr.skip() if drawn == before else slider

    @shows_errors
    def generate(
        self,
        values: dict[gr.components.Component, tp.Any],
        request: gr.Request,
        progress: gr.Progress = PROGRESS,
    ) -> list:
        """Fulfil the wish that stands on the page; its fields are called as those of `FormValues`."""
        form = FormValues(**{str(component.elem_id): value for component, value in values.items()})
        clip = None if form.clip is None else self._ours(Path(form.clip))
        session = self.sessions.get(request.session_hash)

        def report(done: float, total: float) -> None:
            progress(done / total, desc=f"{done:.1f} of {total:g} s of music")

        try:
            result = self.service.generate(form, session, report)
        except Cancelled:
            return ["Cancelled.", *[gr.skip()] * (1 + OUTPUTS_PER_SAMPLE * MAX_VARIATIONS)]
        except Exception as error:
            raise page_error(error_message(error, clip)) from None
        return [*show(result), self._history(request)]

    @shows_errors
    def cancel(self, request: gr.Request) -> str:
        """End what this visitor waits for."""
        self.sessions.get(request.session_hash).cancelled.set()
        return "Cancelled. Change what you like and generate again."

    @shows_errors
    def show_result(self, index: int | None, request: gr.Request) -> list:
        """A take of the session's history."""
        results = self.sessions.get(request.session_hash).results
        if index is None or not 0 <= index < len(results):
            return [gr.skip()] * (1 + OUTPUTS_PER_SAMPLE * MAX_VARIATIONS)
        return show(results[index])

    def remove(self, request: gr.Request) -> None:
        """A tab was closed."""
        self.sessions.remove(request.session_hash)

    def _history(self, request: gr.Request) -> gr.Radio:
        results = self.sessions.get(request.session_hash).results
        choices = [
            (f"{_short(result.title)} · {result.details}", i) for i, result in enumerate(results)
        ]
        return gr.Radio(choices=choices[::-1], value=len(results) - 1, visible=True)

    def _ours(self, path: Path) -> Path:
        """A path, if it lies where uploads lie."""
        if not path.resolve().is_relative_to(self.folder):
            raise ConfigError(f"{path.name} was not uploaded here. Upload it, then try again.")
        return path


def show(result: Result) -> list:
    """A take on the page: its description, and what stands in each of the places."""
    text = f"<strong>{html.escape(result.title)}</strong><br>{html.escape(result.details)}"
    shown: list[tp.Any] = [text]
    for place in range(MAX_VARIATIONS):
        if place < len(result.files):
            file = result.files[place]
            audio, picture, recipe = map(str, file)
            shown += [gr.Column(visible=True), audio, picture, audio, recipe]
        else:
            shown += [gr.Column(visible=False), None, None, None, None]
    return shown


def _short(title: str) -> str:
    return title if len(title) <= 60 else title[:59] + "…"
