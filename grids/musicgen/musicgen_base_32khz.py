"""MusicGen: how much does text to music gain from a larger model?

Method: Copet et al., 2023, https://arxiv.org/abs/2306.05284, which used as many GPUs.
"""

from audiocraft.environment import AudioCraftEnvironment

from .._explorers import LMExplorer

GPUS = {"small": 32, "medium": 64, "large": 96}


@LMExplorer
def explorer(launcher):
    launcher.slurm_(partition=AudioCraftEnvironment.get_slurm_partitions())
    launcher.bind_(
        {
            "solver": "musicgen/musicgen_base_32khz",
            "dset": "audio/example",  # replace by your own data set
            "conditioner": "text2music",
        }
    )

    launcher.slurm(gpus=GPUS["small"])({"model/lm/model_scale": "small"})

    sharded = {
        "fsdp.use": True,
        "autocast": False,  # FSDP has its own mixed precision
        "optim.optimizer": "adamw",
        "optim.lr": 1e-4,
    }
    for scale in ("medium", "large"):
        launcher.slurm(gpus=GPUS[scale])(sharded, {"model/lm/model_scale": scale})
