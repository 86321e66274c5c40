"""Grids of experiments: reading their files, running them here, following them on SLURM."""
