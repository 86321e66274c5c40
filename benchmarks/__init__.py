"""Speed and memory, measured with one command each; docs/PERFORMANCE.md holds the figures."""
