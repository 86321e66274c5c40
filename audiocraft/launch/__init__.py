"""Grids of experiments: grid files, local runs, SLURM."""
