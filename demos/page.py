"""The page: what stands where, and which handler answers."""

import html

import gradio as gr

from audiocraft.inference.request import MAX_TEXT, Request
from audiocraft.models.musicgen import MusicGen

from .clips import MAX_BYTES, MAX_SECONDS, bundled_clips
from .handlers import Handlers
from .sessions import MAX_DURATION, MAX_VARIATIONS
from .theme import ACCENT

PAUSE, AGE = 600, 6 * 3600  # seconds: how often copies of files are looked at, how old they get
WAITING = 20  # requests in the queue; further ones are sent away

DEFAULT = Request(seed=0)

# What is typed beside a slider counts as far as the slider goes: Gradio refuses what is beyond.
WITHIN = """(clip, start, length) => {
    const within = (name, value) => {
        const box = document.querySelector(`#${name} input[type=number]`);
        return box ? Math.min(Math.max(value, box.min), box.max) : value;
    };
    return [clip, within("start", start), within("excerpt_length", length)];
}"""

EXPLAINED = {
    "excerpt_length": "How many seconds of the clip are heard: a longer excerpt tells more.",
    "style_detail": "How closely the clip is followed: 1 takes its mood, {most} its sounds, too.",
    "guidance": "How strictly text and clip are obeyed: higher is closer and less varied.",
    "text_weight": "Where both are given, which counts more: higher means more of the text.",
    "duration": "Seconds of music in each variation.",
    "count": "They differ in their seed only.",
    "seed": "The same seed makes the same music again; empty draws a new one.",
}


def build_page(handlers: Handlers) -> gr.Blocks:
    """The page of a model, not yet launched.

    Args:
        handlers: What the page does.
    """
    model = handlers.service.sample_generator.model
    with gr.Blocks(
        title="Music in a style",
        analytics_enabled=False,
        delete_cache=(PAUSE, AGE),
    ) as page:
        gr.HTML(
            "<h1>Music from a sentence, in the style of a clip</h1><p>Describe it, let a few "
            f"seconds of music be heard, or both. Model: {html.escape(model.name)}.</p>",
            elem_id="title",
        )
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                fields, picture, bundled = _inputs(model)
            with gr.Column(scale=6, min_width=320):
                go, stop, outputs, history = _outputs()
        _connect(handlers, fields, (picture, bundled), (go, stop), (outputs, history))
        page.unload(handlers.remove)
    page.queue(max_size=WAITING, default_concurrency_limit=8)
    return page


def _inputs(model: MusicGen):
    """The fields of a `FormValues` by name, the picture of the clip, and the list of bundled ones."""
    fields: dict[str, gr.components.Component] = {}
    fields["text"] = gr.Textbox(
        label="Describe the music",
        placeholder="A slow jazz tune with piano and brushed drums",
        info=f"A sentence about style, instruments, mood, tempo. Up to {MAX_TEXT:,} characters.",
        lines=2,
        max_lines=6,
        elem_id="text",
    )
    fields["clip"] = gr.Audio(
        label="A clip in whose style it shall be (optional)",
        sources=["upload", "microphone"],
        type="filepath",
        editable=False,
        buttons=[],
        waveform_options=gr.WaveformOptions(waveform_progress_color=ACCENT),
        elem_id="clip",
    )
    bundled = gr.Dropdown(
        list(bundled_clips()),
        value=None,
        label="… or one of ours",
        info=f"Your own may have {MAX_BYTES // 2**20} MB and last {MAX_SECONDS / 60:g} minutes.",
        elem_id="bundled",
    )
    picture = gr.HTML(elem_id="picture", padding=False)
    fields["start"] = gr.Slider(
        0,
        MAX_SECONDS,
        step=0.1,
        value=0,
        visible=False,
        label="Excerpt starts at (seconds)",
        info="Move it to the part that sounds like what you want.",
        elem_id="start",
    )
    _size(model, fields)
    with gr.Accordion("How closely text and clip are followed", open=True):
        _how(model, fields)
    return fields, picture, bundled


def _size(model: MusicGen, fields: dict[str, gr.components.Component]) -> None:
    with gr.Row():
        fields["duration"] = gr.Slider(
            1,
            MAX_DURATION,
            step=1,
            value=min(DEFAULT.duration, model.max_duration),
            label="Duration",
            info=EXPLAINED["duration"],
            min_width=220,
            elem_id="duration",
        )
        fields["count"] = gr.Radio(
            list(range(1, MAX_VARIATIONS + 1)),
            value=2,
            label="Variations",
            info=EXPLAINED["count"],
            min_width=220,
            elem_id="count",
        )


def _how(model: MusicGen, fields: dict[str, gr.components.Component]) -> None:
    try:
        conditioner = model.style_conditioner
        most = conditioner.rvq.total_codebooks if conditioner.rvq is not None else 1
        shortest, longest = conditioner.varying_lengths
    except (
        ValueError
    ):  # a model of text only: `SampleGenerator.check` tells it to those who give a clip
        most, shortest, longest = 6, 1.5, 4.5
    detail = EXPLAINED["style_detail"].format(most=most)
    ranges = {
        "style_detail": (1, most, 1, min(DEFAULT.style_detail, most), detail),
        "excerpt_length": (shortest, longest, 0.1, DEFAULT.excerpt_length, None),
        "guidance": (1, 10, 0.5, DEFAULT.guidance, None),
        "text_weight": (1, 9, 0.5, DEFAULT.text_weight, None),
    }
    for name, (least, highest, step, value, info) in ranges.items():
        fields[name] = gr.Slider(
            least,
            highest,
            step=step,
            value=value,
            label=name.replace("_", " ").capitalize(),
            info=info or EXPLAINED[name],
            elem_id=name,
        )
    fields["seed"] = gr.Textbox(
        label="Seed", info=EXPLAINED["seed"], placeholder="any", max_lines=1, elem_id="seed"
    )


def _outputs():
    """The buttons, what a take is shown in, and the history."""
    with gr.Row():
        go = gr.Button("Generate", variant="primary", elem_id="go", min_width=140)
        stop = gr.Button("Cancel", variant="stop", elem_id="stop", interactive=False, min_width=140)
    outputs = [gr.HTML("Your music will be here.", elem_id="status", container=True)]
    for place in range(1, MAX_VARIATIONS + 1):
        with gr.Column(visible=False, elem_classes="take", min_width=0) as column:
            player = gr.Audio(
                label=f"Variation {place}",
                buttons=[],
                interactive=False,
                waveform_options=gr.WaveformOptions(waveform_progress_color=ACCENT),
                elem_id=f"player-{place}",
            )
            picture = gr.Image(
                label="Waveform and spectrogram",
                show_label=False,
                buttons=["fullscreen"],
                interactive=False,
                elem_id=f"picture-{place}",
                alt_text=f"Waveform and spectrogram of variation {place}",
            )
            with gr.Row(elem_classes="downloads"):
                audio = gr.DownloadButton("Download music", elem_id=f"audio-{place}")
                recipe = gr.DownloadButton("Download recipe", elem_id=f"recipe-{place}")
        outputs += [column, player, picture, audio, recipe]
    history = gr.Radio(
        [],
        label="This session",
        info="Choose an earlier take to hear it again. All are deleted when you leave the page.",
        visible=False,
        elem_id="history",
    )
    return go, stop, outputs, history


def _connect(handlers: Handlers, fields, clip_parts, buttons, results) -> None:
    """Which handler answers to what."""
    (picture, bundled), (go, stop), (outputs, history) = clip_parts, buttons, results
    clip, start, length = (fields[name] for name in ("clip", "start", "excerpt_length"))
    quick = {"api_visibility": "private", "show_progress": "hidden"}
    bundled.input(handlers.choose_bundled, bundled, clip, **quick)
    gr.on(  # one event for all, so that no late answer replaces a newer one
        [clip.change, length.release, start.input],
        handlers.show_clip,
        [clip, start, length],
        [picture, start],
        js=WITHIN,
        trigger_mode="always_last",
        api_visibility="private",
        show_progress="hidden",
    )
    started = go.click(lambda: _running(True), None, [go, stop], queue=False, **quick)
    making = started.then(
        handlers.generate,
        set(fields.values()),
        [*outputs, history],
        concurrency_limit=1,
        concurrency_id="model",
        show_progress="full",
        show_progress_on=[outputs[0]],
        api_visibility="private",
    )
    for ended in (making.success, making.failure):
        ended(lambda: _running(False), None, [go, stop], queue=False, **quick)
    stop.click(handlers.cancel, None, outputs[0], cancels=[making], queue=False, **quick).then(
        lambda: _running(False), None, [go, stop], queue=False, **quick
    )
    history.input(handlers.show_result, history, outputs, **quick)


def _running(is_running: bool):
    """The two buttons while a piece is made, and otherwise."""
    return gr.Button(interactive=not is_running), gr.Button(interactive=is_running)
