"""MusicGen with a melody: the chroma of a clip and a text to music, 1.5 B parameters.

Method: Copet et al., 2023, https://arxiv.org/abs/2306.05284.
"""

from audiocraft.environment import AudioCraftEnvironment

from .._explorers import LMExplorer


@LMExplorer
def explorer(launcher):
    launcher.slurm_(gpus=64, partition=AudioCraftEnvironment.get_slurm_partitions())
    launcher.bind_(
        {
            "solver": "musicgen/musicgen_melody_32khz",
            "dset": "audio/example",  # replace by your own data set
            "conditioner": "chroma2music",
            "fsdp.use": True,
            "autocast": False,  # FSDP has its own mixed precision
            "optim.optimizer": "adamw",
            "optim.lr": 1e-4,
        }
    )

    launcher({"model/lm/model_scale": "medium"})
