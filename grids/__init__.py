"""Experiment sweeps: `dora grid musicgen.musicgen_style_32khz` schedules one on SLURM."""
