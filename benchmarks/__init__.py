"""Benchmarks of speed and memory, one command each; results are in docs/PERFORMANCE.md."""
