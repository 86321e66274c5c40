"""Example music: composed, rendered and labelled by this repository (see `README.md`)."""
