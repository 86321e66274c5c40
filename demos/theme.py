"""Theme and style sheet of the page, light and dark."""

import gradio as gr

ACCENT = "#14b8a6"

THEME = gr.themes.Soft(
    primary_hue="teal",
    neutral_hue="slate",
    font=["system-ui", "sans-serif"],  # fonts of the visitor: nothing is downloaded
    font_mono=["ui-monospace", "monospace"],
).set(
    body_background_fill="*neutral_100",
    block_border_width="1px",
    block_title_background_fill="transparent",
    block_title_background_fill_dark="transparent",
    block_title_padding="0",
    block_title_text_color="*body_text_color",
    block_title_text_color_dark="*body_text_color",
    block_label_background_fill="transparent",
    block_label_background_fill_dark="transparent",
    block_label_text_color="*body_text_color",
    block_label_text_color_dark="*body_text_color",
)

CSS = """
.gradio-container { width: 100% !important; max-width: 1240px !important;
  margin: 0 auto !important; }
#title h1 { font-size: 1.7rem; margin: 0.4rem 0 0.2rem; line-height: 1.25; }
#title p { color: var(--body-text-color-subdued); margin: 0; }
figure.clip { margin: 0; padding: 0.6rem 0.8rem; background: var(--block-background-fill);
  border: 1px solid var(--border-color-primary); border-radius: 4px; }
figure.clip svg { width: 100%; height: 84px; display: block; }
figure.clip path { stroke-width: 0.62; fill: none; }
figure.clip .waveform { stroke: var(--neutral-400); }
figure.clip .excerpt { stroke: var(--color-accent); }
figure.clip .excerpt-area { fill: var(--color-accent); opacity: 0.16; }
figure.clip figcaption { display: flex; justify-content: space-between; font-size: 0.85rem; }
p.error { margin: 0; padding: 0.7rem 0.9rem; border-left: 4px solid #c2410c;
  background: color-mix(in srgb, #c2410c 10%, transparent); overflow-wrap: anywhere; }
#status { min-height: 3.2rem; padding: 0.6rem 0.9rem; overflow-wrap: anywhere; }
#history label { width: 100%; }
#count .wrap { flex-wrap: nowrap; gap: 0.3rem; }
#count label { padding: 0.4rem 0.55rem; }
.sample { gap: 0; background: var(--block-background-fill); border-radius: 12px;
  border: 1px solid var(--border-color-primary); overflow: hidden; }
.sample .block { border: 0 !important; box-shadow: none !important; }
.downloads { padding: 0.6rem 0.8rem 0.8rem; gap: 0.6rem; }
@media (max-width: 600px) { .gradio-container { padding: 0.5rem !important; } }
"""
