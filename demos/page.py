"""Layout of the page, and its connections to the event handlers."""

import html

import gradio as gr

from audiocraft.inference.request import MAX_TEXT, Request
from audiocraft.models.musicgen import MusicGen

from .clips import MAX_BYTES, MAX_SECONDS, bundled_clips
from .handlers import Handlers
from .sessions import MAX_DURATION, MAX_VARIATIONS
from .theme import ACCENT

CLEANUP_INTERVAL, MAX_AGE = 600, 6 * 3600  # seconds, of uploads and copies of files
MAX_QUEUE = 20  # waiting requests; further ones are rejected

DEFAULT = Request(seed=0)

# Clamps numbers typed beside a slider, which Gradio would refuse.
CLAMP = """(clip, start, length) => {
    const clamp = (name, value) => {
        const box = document.querySelector(`#${name} input[type=number]`);
        return box ? Math.min(Math.max(value, box.min), box.max) : value;
    };
    return [clip, clamp("start", start), clamp("excerpt_length", length)];
}"""

INFO = {
    "excerpt_length": "Seconds of the clip that the model uses.",
    "style_detail": "How closely the clip is followed: 1 keeps its mood, {most} its sounds, too.",
    "guidance": "How strictly both are followed: higher is stricter and less varied.",
    "text_weight": "With description and clip: higher follows the description more.",
    "duration": "Seconds of music in each variation.",
    "count": "They differ only in their seed.",
    "seed": "The same seed gives the same music again. Leave it empty for new music each time.",
}


def build_page(handlers: Handlers) -> gr.Blocks:
    """Return the page, not yet launched."""
    model = handlers.service.sample_generator.model
    with gr.Blocks(
        title="Music in a style",
        analytics_enabled=False,
        delete_cache=(CLEANUP_INTERVAL, MAX_AGE),
    ) as page:
        gr.HTML(
            "<h1>Music from a description, in the style of a clip</h1><p>Describe the music, give "
            f"a few seconds of music as an example, or both. Model: {html.escape(model.name)}.</p>",
            elem_id="title",
        )
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                fields, picture, bundled = _inputs(model)
            with gr.Column(scale=6, min_width=320):
                go, stop, outputs, history = _outputs()
        _connect(handlers, fields, (picture, bundled), (go, stop), (outputs, history))
        page.unload(handlers.remove)
    page.queue(max_size=MAX_QUEUE, default_concurrency_limit=8)
    return page


def _inputs(model: MusicGen):
    """Create the fields of `FormValues` by name, the picture and the list of bundled clips."""
    fields: dict[str, gr.components.Component] = {}
    fields["text"] = gr.Textbox(
        label="Describe the music",
        placeholder="A slow jazz tune with piano and brushed drums",
        info=f"Style, instruments, mood, tempo. Up to {MAX_TEXT:,} characters.",
        lines=2,
        max_lines=6,
        elem_id="text",
    )
    fields["clip"] = gr.Audio(
        label="Style clip: music in the style you want (optional)",
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
        label="… or an example",
        info=f"Your own may have {MAX_BYTES // 2**20} MB and {MAX_SECONDS / 60:g} minutes.",
        elem_id="bundled",
    )
    picture = gr.HTML(elem_id="picture", padding=False)
    fields["start"] = gr.Slider(
        0,
        MAX_SECONDS,
        step=0.1,
        value=0,
        visible=False,
        label="Start of the excerpt (seconds)",
        info="Only the excerpt is used. Move it to the part that sounds like what you want.",
        elem_id="start",
    )
    _length_fields(model, fields)
    with gr.Accordion("How closely description and clip are followed", open=True):
        _style_fields(model, fields)
    return fields, picture, bundled


def _length_fields(model: MusicGen, fields: dict[str, gr.components.Component]) -> None:
    with gr.Row():
        fields["duration"] = gr.Slider(
            1,
            MAX_DURATION,
            step=1,
            value=min(DEFAULT.duration, model.max_duration),
            label="Duration",
            info=INFO["duration"],
            min_width=220,
            elem_id="duration",
        )
        fields["count"] = gr.Radio(
            list(range(1, MAX_VARIATIONS + 1)),
            value=2,
            label="Variations",
            info=INFO["count"],
            min_width=220,
            elem_id="count",
        )


def _style_fields(model: MusicGen, fields: dict[str, gr.components.Component]) -> None:
    try:
        conditioner = model.style_conditioner
        most = conditioner.rvq.total_codebooks if conditioner.rvq is not None else 1
        shortest, longest = conditioner.varying_lengths
    except ValueError:  # a model without style: `SampleGenerator.check` refuses clips
        most, shortest, longest = 6, 1.5, 4.5
    detail = INFO["style_detail"].format(most=most)
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
            info=info or INFO[name],
            elem_id=name,
        )
    fields["seed"] = gr.Textbox(
        label="Seed", info=INFO["seed"], placeholder="random", max_lines=1, elem_id="seed"
    )


def _outputs():
    """Create the buttons, the outputs of a result, and the history."""
    with gr.Row():
        go = gr.Button("Generate", variant="primary", elem_id="go", min_width=140)
        stop = gr.Button("Cancel", variant="stop", elem_id="stop", interactive=False, min_width=140)
    outputs = [gr.HTML("Your music will appear here.", elem_id="status", container=True)]
    for number in range(1, MAX_VARIATIONS + 1):
        with gr.Column(visible=False, elem_classes="sample", min_width=0) as column:
            player = gr.Audio(
                label=f"Variation {number}",
                buttons=[],
                interactive=False,
                waveform_options=gr.WaveformOptions(waveform_progress_color=ACCENT),
                elem_id=f"player-{number}",
            )
            picture = gr.Image(
                label="Waveform and spectrogram",
                show_label=False,
                buttons=["fullscreen"],
                interactive=False,
                elem_id=f"picture-{number}",
                alt_text=f"Waveform and spectrogram of variation {number}",
            )
            with gr.Row(elem_classes="downloads"):
                audio = gr.DownloadButton("Download music", elem_id=f"audio-{number}")
                recipe = gr.DownloadButton("Download recipe", elem_id=f"recipe-{number}")
        outputs += [column, player, picture, audio, recipe]
    history = gr.Radio(
        [],
        label="This session",
        info="Choose an earlier result to play it again. All are deleted when you leave the page.",
        visible=False,
        elem_id="history",
    )
    return go, stop, outputs, history


def _connect(handlers: Handlers, fields, clip_parts, buttons, results) -> None:
    """Connect events to handlers."""
    (picture, bundled), (go, stop), (outputs, history) = clip_parts, buttons, results
    clip, start, length = (fields[name] for name in ("clip", "start", "excerpt_length"))
    quick = {"api_visibility": "private", "show_progress": "hidden"}
    bundled.input(handlers.choose_bundled, bundled, clip, **quick)
    gr.on(  # one event, so that a late response cannot replace a newer one
        [clip.change, length.release, start.input],
        handlers.show_clip,
        [clip, start, length],
        [picture, start],
        js=CLAMP,
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
    """Update the two buttons."""
    return gr.Button(interactive=not is_running), gr.Button(interactive=is_running)
