"""The package, and what it needs. `requirements.lock` pins one working set of all of it."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "audiocraft" / "__init__.py").read_text())
assert VERSION, "audiocraft/__init__.py states no version"  # noqa: S101

REQUIRED = [
    "av>=14",
    "dadaptation==2.0",  # 1.x and 3.x compute something else
    "dora-search>=0.1.13",
    "encodec>=0.1.1",
    "flashy>=0.0.2",
    "huggingface_hub>=0.27",
    "hydra-core>=1.3",
    "julius>=0.2.7",
    "librosa>=0.10",
    "matplotlib>=3.8",
    "numpy>=1.26",
    "omegaconf>=2.3,<2.4",  # hydra 1.3 needs it so
    "pebble>=5",  # processes that a broken file may crash
    "safetensors>=0.4",
    "scipy>=1.11",
    "sentencepiece>=0.2",  # without it T5 silently gets an empty vocabulary
    "soundfile>=0.13",
    "tensorboard>=2.15",
    "torch>=2.6",
    "torchaudio>=2.6",
    "tqdm>=4.66",
    "transformers>=4.48",
    "treetable>=0.2",
]

EXTRAS = {
    "8bit": ["bitsandbytes>=0.49"],  # an optimizer in a quarter of the memory
    "dac": ["descript-audio-codec>=1.0"],  # the DAC tokenizer
    "dataset": ["mido>=1.3"],  # rendering the example music anew
    "demo": ["gradio>=6", "ipython>=8"],
    "dev": [
        "hypothesis>=6",
        "playwright>=1.50",  # the web page in a real browser
        "ipykernel>=6.29",  # the notebook, in a test
        "nbclient>=0.10",
        "pre-commit>=4",
        "pyloudnorm>=0.1",  # an independent loudness meter
        "pyright>=1.1.400",
        "pytest>=8,<9.2",  # with 9.2, pytest-xdist 3.8 tears groups apart
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.6",
        "ruff>=0.12",
        "torchcodec>=0.8",  # behind `torchaudio.load`; needs FFmpeg
    ],
    "lora": ["peft>=0.17"],
    "tables": ["pyarrow>=14"],  # Parquet tables and Hugging Face data sets
    "wandb": ["wandb>=0.31"],
}

setup(
    name="audiocraft-style",
    version=VERSION.group(1),
    description="Music from text and from a few seconds of style: an independent MusicGen-Style",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["audiocraft", "audiocraft.*"]),
    install_requires=REQUIRED,
    extras_require=EXTRAS,
)
