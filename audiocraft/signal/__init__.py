"""Signal processing without weights: STFT, mel, chroma, chunk boundaries."""
