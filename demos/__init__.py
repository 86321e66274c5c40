"""Doors to play with: a web page (`python -m demos.musicgen_style_app`)."""
