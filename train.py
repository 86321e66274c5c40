"""Launcher: `python train.py solver=…` is the same experiment as `dora run solver=…`."""

from audiocraft.train import main

if __name__ == "__main__":
    main()
