"""Public import paths and signatures: formats that do not change without a notice."""

import importlib
import inspect
import typing as tp

import pytest
import torch

from audiocraft.data import audio, audio_dataset
from audiocraft.data.audio_dataset import AudioDataset
from audiocraft.data.music_dataset import MusicDataset
from audiocraft.errors import ManifestError

NAMES = [
    "audiocraft.data.audio:audio_info",
    "audiocraft.data.audio:audio_read",
    "audiocraft.data.audio:audio_write",
    "audiocraft.data.audio_dataset:AudioDataset",
    "audiocraft.data.audio_dataset:find_audio_files",
    "audiocraft.data.audio_dataset:load_audio_meta",
    "audiocraft.data.audio_dataset:main",
    "audiocraft.data.audio_dataset:save_audio_meta",
    "audiocraft.data.music_dataset:MusicDataset",
    "audiocraft.data.audio_utils:convert_audio",
    "audiocraft.environment:AudioCraftEnvironment",
    "audiocraft.models:CompressionModel",
    "audiocraft.models:DAC",
    "audiocraft.models:EncodecModel",
    "audiocraft.models:HFEncodecCompressionModel",
    "audiocraft.models:HFEncodecModel",
    "audiocraft.models:LMModel",
    "audiocraft.models:MusicGen",
    "audiocraft.models:builders",
    "audiocraft.models:loaders",
    "audiocraft.models.builders:get_lm_model",
    "audiocraft.models.encodec:CompressionModel",
    "audiocraft.models.encodec:EncodecModel",
    "audiocraft.models.lm:LMModel",
    "audiocraft.models.loaders:load_compression_model",
    "audiocraft.models.musicgen:MusicGen",
    "audiocraft.modules.conditioners:ConditioningAttributes",
    "audiocraft.modules.conditioners:StyleConditioner",
    "audiocraft.modules.conditioners:WavCondition",
    "audiocraft.solvers:MusicGenSolver",
    "audiocraft.solvers:StandardSolver",
    "audiocraft.solvers:get_solver",
    "audiocraft.solvers.musicgen:MusicGenSolver",
    "audiocraft.train:main",
    "audiocraft.utils.export:export_encodec",
    "audiocraft.utils.export:export_lm",
    "audiocraft.utils.export:export_pretrained_compression_model",
    "audiocraft.utils.notebook:display_audio",
]

# Parameters in order, with their defaults; our additional ones follow as keywords.
SIGNATURES = {
    "audiocraft.data.audio:audio_read": [
        "filepath",
        ("seek_time", 0),
        ("duration", -1),
        ("pad", False),
    ],
    "audiocraft.data.audio:audio_write": [
        "stem_name",
        "wav",
        "sample_rate",
        ("format", "wav"),
        ("mp3_rate", 320),
        ("ogg_rate", None),
        ("normalize", True),
        ("strategy", "peak"),
        ("peak_clip_headroom_db", 1),
        ("rms_headroom_db", 18),
        ("loudness_headroom_db", 14),
        ("loudness_compressor", False),
        ("log_clipping", True),
        ("make_parent_dir", True),
        ("add_suffix", True),
    ],
    "audiocraft.data.audio_utils:convert_audio": ["wav", "from_rate", "to_rate", "to_channels"],
    "audiocraft.models:MusicGen.get_pretrained": ["name", ("device", None)],
    "audiocraft.models:CompressionModel.get_pretrained": ["name", ("device", "cpu")],
    "audiocraft.models.loaders:load_lm_model": [
        "file_or_url_or_id",
        ("device", "cpu"),
        ("cache_dir", None),
    ],
    "audiocraft.models.loaders:load_compression_model": [
        "file_or_url_or_id",
        ("device", "cpu"),
        ("cache_dir", None),
    ],
    "audiocraft.models.loaders:load_lm_model_ckpt": ["file_or_url_or_id", ("cache_dir", None)],
    "audiocraft.models.loaders:load_compression_model_ckpt": [
        "file_or_url_or_id",
        ("cache_dir", None),
    ],
    "audiocraft.utils.export:export_lm": ["checkpoint_path", "out_file"],
    "audiocraft.utils.export:export_encodec": ["checkpoint_path", "out_file"],
    "audiocraft.utils.export:export_pretrained_compression_model": [
        "pretrained_encodec",
        "out_file",
    ],
    "audiocraft.models:MusicGen.set_generation_params": [
        ("use_sampling", True),
        ("top_k", 250),
        ("top_p", 0.0),
        ("temperature", 1.0),
        ("duration", 30.0),
        ("cfg_coef", 3.0),
        ("cfg_coef_beta", None),
        ("two_step_cfg", False),
        ("extend_stride", None),
    ],
    "audiocraft.models:MusicGen.set_style_conditioner_params": [
        ("eval_q", 3),
        ("excerpt_length", 3.0),
        ("ds_factor", None),
        ("encodec_n_q", None),
    ],
    "audiocraft.models:MusicGen.generate": [
        "descriptions",
        ("progress", False),
        ("return_tokens", False),
    ],
    "audiocraft.models:MusicGen.generate_unconditional": ["num_samples"],
    "audiocraft.models:MusicGen.generate_continuation": [
        "prompt",
        "prompt_sample_rate",
        ("descriptions", None),
    ],
    "audiocraft.models:MusicGen.generate_with_chroma": [
        "descriptions",
        "melody_wavs",
        "melody_sample_rate",
    ],
}


def find(name: str):
    module, _, path = name.partition(":")
    value = importlib.import_module(module)
    for part in path.split("."):
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("name", NAMES)
def test_public_names_are_importable(name):
    assert find(name) is not None


@pytest.mark.parametrize("name", SIGNATURES)
def test_public_calls_are_accepted(name):
    parameters = [
        p
        for p in inspect.signature(tp.cast(tp.Callable, find(name))).parameters.values()
        if p.name != "self"
    ]
    promised = [wanted if isinstance(wanted, tuple) else (wanted,) for wanted in SIGNATURES[name]]
    given = [(p.name, p.default)[: len(wanted)] for p, wanted in zip(parameters, promised)]
    assert given == promised
    for extra in parameters[len(promised) :]:
        assert extra.default is not extra.empty or extra.kind is extra.VAR_KEYWORD, (
            f"{name} now demands {extra.name}"
        )


def test_public_attributes_exist(tiny_musicgen):
    for name in (
        "sample_rate",
        "frame_rate",
        "audio_channels",
        "device",
        "max_duration",
        "lm",
        "compression_model",
    ):
        assert getattr(tiny_musicgen, name) is not None


def test_audio_functions_accept_the_keywords_of_scripts(tmp_path):
    wav = torch.rand(1, 800) - 0.5
    path = audio.audio_write(stem_name=tmp_path / "a", wav=wav, sample_rate=800, format="wav")
    read, rate = audio.audio_read(filepath=path, seek_time=0.25, duration=0.5, pad=True)
    assert (read.shape, rate) == ((1, 400), 800)
    assert audio.audio_info(filepath=path).channels == 1


def test_datasets_accept_the_keywords_of_scripts(tmp_path):
    audio.audio_write(stem_name=tmp_path / "a", wav=torch.rand(1, 800) - 0.5, sample_rate=800)
    (tmp_path / "a.json").write_text('{"title": "A"}', encoding="utf-8")
    entries = audio_dataset.find_audio_files(path=tmp_path, exts=[".wav"], minimal=False)
    audio_dataset.save_audio_meta(path=tmp_path / "data.jsonl", meta=entries)
    assert audio_dataset.load_audio_meta(path=tmp_path / "data.jsonl") == entries
    dataset: tp.Any
    options: dict = {"segment_duration": 0.5, "sample_rate": 800, "channels": 1, "num_samples": 2}
    dataset = AudioDataset.from_meta(root=tmp_path, **options)
    assert dataset[0].shape == (1, 400)
    dataset = AudioDataset.from_path(root=tmp_path, minimal_meta=True, exts=[".wav"], **options)
    assert len(dataset.meta) == 1
    dataset = MusicDataset.from_meta(root=tmp_path, info_fields_required=False, **options)
    assert dataset[0][1].title == "A"
    with pytest.raises(ManifestError, match="artist"):
        MusicDataset.from_meta(root=tmp_path, info_fields_required=True, **options).check()
