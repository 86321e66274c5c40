"""Demos: a web page (`python -m demos.musicgen_style_app`) and a notebook."""
