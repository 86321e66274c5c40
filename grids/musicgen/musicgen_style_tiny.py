"""The bundled job: how fast should it learn?

Minutes on two CPU cores: python -m audiocraft grid musicgen.musicgen_style_tiny --local
"""

from .._explorers import LMExplorer


@LMExplorer
def explorer(launcher):
    launcher.slurm_(gpus=1)
    launcher.bind_({"solver": "musicgen/musicgen_style_tiny", "optim.epochs": 2})

    for lr in (1e-3, 2e-3, 4e-3):
        launcher({"optim.lr": lr})
