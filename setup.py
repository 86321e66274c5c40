"""Distribution `audiocraft-style`: metadata, dependencies, and the folders that the wheel contains.

`requirements.lock` pins one working set of all dependencies.
"""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "audiocraft/__init__.py").read_text("utf-8"))
assert VERSION, "audiocraft/__init__.py states no version"  # noqa: S101

# Folders of the repository that a wheel has inside the package; `environment.py` finds both.
FOLDERS = ("assets", "config", "dataset/example", "demos", "egs/example", "grids")

REQUIRED = [
    "av>=14",
    "dadaptation==2.0",  # 1.x and 3.x compute another update
    "dora-search>=0.1.13",
    "encodec>=0.1.1",
    "flashy>=0.0.2",
    "huggingface_hub>=0.27",
    "hydra-core>=1.3",
    "julius>=0.2.7",
    "matplotlib>=3.8",
    "numpy>=1.26",
    "omegaconf>=2.3,<2.4",  # required by hydra 1.3
    "pebble>=5",  # worker processes that survive the crash of a decoder
    "safetensors>=0.4",
    "scipy>=1.11",
    "sentencepiece>=0.2",  # without it, T5 silently gets an empty vocabulary
    "soundfile>=0.13",
    "tensorboard>=2.15",
    "torch>=2.6",
    "torchaudio>=2.6",
    "tqdm>=4.66",
    "transformers>=4.48",
    "treetable>=0.2",
    "wandb>=0.31",  # off by default, imported only when it is used
]

EXTRAS = {
    "8bit": ["bitsandbytes>=0.49"],  # optimizer state in 8 bits
    "dac": ["descript-audio-codec>=1.0"],  # the DAC tokenizer
    "dataset": ["mido>=1.3"],  # rendering the example music again
    "demo": ["gradio>=6", "ipython>=8"],  # web page and notebook
    "dev": [
        "hypothesis>=6",
        "librosa>=0.10",  # independent chroma filters
        "playwright>=1.50",  # the web page in a browser
        "ipykernel>=6.29",  # the notebook, in a test
        "nbclient>=0.10",
        "pre-commit>=4",
        "pyloudnorm>=0.1",  # independent loudness meter
        "pyright>=1.1.400",
        "pytest>=8,<9.2",  # with 9.2, pytest-xdist 3.8 splits groups
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.6",
        "ruff>=0.12",
        "torchcodec>=0.8",  # behind `torchaudio.load`; needs FFmpeg
    ],
    "lora": ["peft>=0.17"],
    "tables": ["pyarrow>=14"],  # Parquet tables and Hugging Face data sets
    "visqol": ["visqol-python>=3"],  # estimated listening quality of codecs
    "wandb": [],  # required by now; the extra stays for scripts that name it
}


class BuildWithFolders(build_py):
    """Copies the folders of the repository into the package; an editable install needs none."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        for folder in FOLDERS:
            shutil.copytree(
                ROOT / folder,
                Path(self.build_lib) / "audiocraft" / folder,
                ignore=shutil.ignore_patterns("__pycache__", ".*"),
                dirs_exist_ok=True,
            )


setup(
    name="audiocraft-style",
    version=VERSION.group(1),
    description="Music from text and from a few seconds of style: an independent MusicGen-Style",
    long_description=(ROOT / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE", "NOTICE"],
    keywords=["music generation", "MusicGen", "style conditioning", "text-to-music"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Environment :: GPU :: NVIDIA CUDA",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Multimedia :: Sound/Audio",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    project_urls={"Method": "https://arxiv.org/abs/2407.12563"},
    python_requires=">=3.11",
    packages=find_packages(include=["audiocraft", "audiocraft.*"]),
    package_data={"audiocraft": ["py.typed"]},
    entry_points={"console_scripts": ["audiocraft = audiocraft.cli.main:main"]},
    install_requires=REQUIRED,
    extras_require=EXTRAS,
    cmdclass={"build_py": BuildWithFolders},
)
