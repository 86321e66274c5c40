"""Event handlers of the page. Every error becomes a message on the page."""

import functools
import html
import shutil
import typing as tp
from pathlib import Path

import gradio as gr

from audiocraft.errors import ConfigError

from .clips import bundled_clips, draw_clip, max_start
from .error_messages import Cancelled, error_message
from .sessions import MAX_VARIATIONS, FormValues, GenerationService, Result, SessionStore

PROGRESS = gr.Progress()  # default argument that Gradio replaces in each call
ERROR_SECONDS = 12  # for which a message is visible; permanent ones would cover the buttons
OUTPUTS_PER_SAMPLE = 5  # column, player, picture, two downloads


def shows_errors(handler: tp.Callable) -> tp.Callable:
    """Decorate a handler so that its errors appear as messages."""

    @functools.wraps(handler)
    def wrapped(*args, **kwargs):
        try:
            return handler(*args, **kwargs)
        except gr.Error:
            raise
        except Exception as error:
            raise page_error(error_message(error)) from None

    return wrapped


def page_error(message: str) -> gr.Error:
    """Return the exception that Gradio shows as a message."""
    return gr.Error(message, duration=ERROR_SECONDS, print_exception=False)


class Handlers:
    """Event handlers.

    Args:
        service: The model.
        sessions: Sessions of the visitors.
        folder: Folder of uploads; no other file is ever read for a visitor.
    """

    def __init__(self, service: GenerationService, sessions: SessionStore, folder: Path):
        self.service = service
        self.sessions = sessions
        self.folder = folder.resolve()

    @shows_errors
    def choose_bundled(self, name: str | None, request: gr.Request):
        """Return a bundled clip, copied as if it had been uploaded."""
        if not name:
            return gr.skip()
        clips = bundled_clips()
        if name not in clips:
            raise ConfigError(f"There is no bundled clip {name!r}. Choose: {', '.join(clips)}.")
        folder = self.sessions.get(request.session_hash).folder
        return shutil.copy(clips[name], folder / clips[name].name)

    def show_clip(self, clip: str | None, start: float, length: float, request: gr.Request):
        """Return the picture of the clip, or an error message, and the slider of the start.

        The excerpt of a new clip is its middle. When only the length changes, the start stays if
        it fits. The slider is updated only where necessary, since the visitor may be moving it.
        """
        session = self.sessions.get(request.session_hash)
        before, session.drawn = session.drawn, None
        if clip is None:
            return "", gr.Slider(visible=False)
        path = Path(clip)
        try:
            style_clip = session.inspect_clip(self._check_uploaded(path))
            latest = max_start(style_clip, length)
        except Exception as error:
            message = error_message(error, path)
            return f'<p class="error" role="alert">{message}</p>', gr.Slider(visible=False)
        session.drawn = drawn = (path, latest)
        is_new = before is None or before[0] != path
        start = round(latest / 2, 1) if is_new else min(max(start, 0.0), latest)
        slider = gr.Slider(value=start, maximum=max(latest, 0.1), visible=latest > 0)
        return draw_clip(style_clip, start, length), gr.skip() if drawn == before else slider

    @shows_errors
    def generate(
        self,
        values: dict[gr.components.Component, tp.Any],
        request: gr.Request,
        progress: gr.Progress = PROGRESS,
    ) -> list:
        """Generate what the form describes; ids of its fields are names of `FormValues`."""
        form = FormValues(**{str(component.elem_id): value for component, value in values.items()})
        clip = None if form.clip is None else self._check_uploaded(Path(form.clip))
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
        """Cancel the generation of this visitor."""
        self.sessions.get(request.session_hash).cancelled.set()
        return "Cancelled. Change the settings and generate again."

    @shows_errors
    def show_result(self, index: int | None, request: gr.Request) -> list:
        """Show an earlier result of the session."""
        results = self.sessions.get(request.session_hash).results
        if index is None or not 0 <= index < len(results):
            return [gr.skip()] * (1 + OUTPUTS_PER_SAMPLE * MAX_VARIATIONS)
        return show(results[index])

    def remove(self, request: gr.Request) -> None:
        """Remove the session of a closed tab."""
        self.sessions.remove(request.session_hash)

    def _history(self, request: gr.Request) -> gr.Radio:
        results = self.sessions.get(request.session_hash).results
        choices = [(f"{_shorten(r.title)} · {r.details}", i) for i, r in enumerate(results)]
        return gr.Radio(choices=choices[::-1], value=len(results) - 1, visible=True)

    def _check_uploaded(self, path: Path) -> Path:
        """Return a path in the folder of uploads; refuse any other."""
        if not path.resolve().is_relative_to(self.folder):
            raise ConfigError(f"{path.name} was not uploaded here. Upload it, then try again.")
        return path


def show(result: Result) -> list:
    """Return the description of a result and the outputs of all variations."""
    text = f"<strong>{html.escape(result.title)}</strong><br>{html.escape(result.details)}"
    outputs: list[tp.Any] = [text]
    for index in range(MAX_VARIATIONS):
        if index < len(result.files):
            audio, picture, recipe = map(str, result.files[index])
            outputs += [gr.Column(visible=True), audio, picture, audio, recipe]
        else:
            outputs += [gr.Column(visible=False), None, None, None, None]
    return outputs


def _shorten(title: str) -> str:
    return title if len(title) <= 60 else title[:59] + "…"
