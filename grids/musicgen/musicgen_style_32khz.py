"""MusicGen-Style as released: text, style or both to music, 1.5 B parameters.

Method: Rouard et al., 2024, https://arxiv.org/abs/2407.12563.
"""

from audiocraft.environment import AudioCraftEnvironment

from .._explorers import LMExplorer


@LMExplorer
def explorer(launcher):
    launcher.slurm_(gpus=64, partition=AudioCraftEnvironment.get_slurm_partitions())
    launcher.bind_(
        {
            "solver": "musicgen/musicgen_style_32khz",
            "dset": "audio/example",  # replace by your own data set
            "conditioner": "style2music",
            "fsdp.use": True,
            "autocast": False,  # FSDP has its own mixed precision
            "optim.optimizer": "adamw",
            "optim.lr": 1e-4,
            "generate.every": 25,
            "dataset.generate.num_samples": 64,
        }
    )

    launcher({"model/lm/model_scale": "medium"})
