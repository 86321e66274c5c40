"""Former module names: `import audiocraft.OLD` still works and warns.

Only for modules whose name changed; public import paths are in `tests/contracts`.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
import types
import typing as tp
import warnings

MOVED = {
    "data.decoders": "data.io.decoders",
    "data.duplicates": "data.prepare.duplicates",
    "data.encoders": "data.io.encoders",
    "data.files": "data.io.files",
    "data.inspection": "data.prepare.statistics",
    "data.isolated": "data.worker_pool",
    "data.journal": "data.resume_log",
    "data.placing": "data.prepare.ingest",
    "data.sources": "data.prepare.sources",
    "data.splitting": "data.prepare.splits",
    "data.tables": "data.io.tables",
    "data.text_augment": "data.music_info",
    "data.token_cache": "data.tokens.format",
    "data.token_dataset": "data.tokens.dataset",
    "data.token_writer": "data.tokens.writer",
    "data.validate": "data.prepare.validate",
    "metrics.seams": "signal.chunk_boundaries",
    "metrics.spectral": "metrics.codec_quality",
    "metrics.steering": "metrics.condition_sensitivity",
    "metrics.steering_command": "cli.condition_sensitivity",
    "models.adapters": "models.lora",
    "models.codec_base": "models.codecs.base",
    "models.codec_wrappers": "models.codecs.wrappers",
    "models.described": "models.weights.checkpoint_config",
    "models.encode_command": "cli.encode_dataset",
    "models.encode_dataset": "inference.encode_dataset",
    "models.encodec_import": "models.weights.encodec_conversion",
    "models.export_command": "cli.export",
    "models.fit_spectral": "solvers.fit_spectral",
    "models.guidance": "models.generation.guidance",
    "models.hub": "models.weights.hub",
    "models.inputs": "models.generation.inputs",
    "models.long_decoding": "models.codecs.chunked_decoding",
    "models.mismatch": "models.weights.mismatch",
    "models.pretrained": "models.weights.pretrained",
    "models.spectral": "models.codecs.spectral",
    "models.whole_files": "models.codecs.chunked_encoding",
    "models.windows": "models.generation.windows",
    "modules.chroma": "signal.chroma",
    "modules.conditioners.style_scale": "modules.conditioners.style",
    "modules.mel": "signal.stft",
    "modules.pattern": "modules.codebooks_patterns",
    "modules.stft": "signal.stft",
    "modules.transformer_spec": "modules.transformer",
    "quantization.steady": "quantization.viterbi",
    "solvers.batches": "solvers.training_data",
    "solvers.best_state": "solvers.checkpoint",
    "solvers.caching": "solvers.token_caching",
    "solvers.checks": "solvers.validation",
    "solvers.dice": "solvers.distributed",
    "solvers.doctor": "doctor",
    "solvers.doctor.command": "cli.doctor",
    "solvers.doctor.device_check": "doctor.device_check",
    "solvers.doctor.examination": "doctor.report",
    "solvers.doctor.memory": "doctor.memory",
    "solvers.doctor.parameters": "doctor.memory",
    "solvers.doctor.weights": "doctor.weights",
    "solvers.file_loggers": "solvers.loggers",
    "solvers.grids": "launch",
    "solvers.grids.cluster": "launch.cluster",
    "solvers.grids.command": "cli.grid",
    "solvers.grids.dora_command": "launch.dora_command",
    "solvers.grids.explorer": "launch.explorer",
    "solvers.grids.grid_file": "launch.grid_file",
    "solvers.grids.local": "launch.local",
    "solvers.inheritance": "solvers.warm_start",
    "solvers.listening": "solvers.sample_generation",
    "solvers.losses": "solvers.cross_entropy",
    "solvers.profiling": "solvers.loggers",
    "solvers.samples": "solvers.sample_generation",
    "solvers.sharded_checkpoint": "solvers.checkpoint",
    "solvers.unigram": "solvers.cross_entropy",
    "solvers.updates": "solvers.optim_step",
    "studio": "inference",
    "studio.command": "cli.generate",
    "studio.folder": "inference.output_folder",
    "studio.maker": "inference.sample_generator",
    "studio.prompts": "inference.prompts",
    "studio.recipe": "inference.recipe",
    "studio.request": "inference.request",
    "studio.style_clip": "inference.style_clip",
    "utils.nodes": "utils.config_arguments",
    "utils.packages": "utils.checkpoint_files",
    "utils.retired_keys": "utils.deprecated_keys",
}


class MovedModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a former module name and loads the module of today in its place."""

    def find_spec(
        self, fullname: str, path: tp.Any = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        name = fullname.removeprefix("audiocraft.")
        return importlib.machinery.ModuleSpec(fullname, self) if name in MOVED else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        target = "audiocraft." + MOVED[spec.name.removeprefix("audiocraft.")]
        warnings.warn(
            f"{spec.name} is now {target}. Import it from there.", DeprecationWarning, stacklevel=2
        )
        module = importlib.import_module(target)
        spec.loader_state = module.__spec__  # the import system is about to replace it
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Restore the module's own spec; the module has been executed under its new name."""
        assert module.__spec__ is not None  # noqa: S101
        module.__spec__ = module.__spec__.loader_state


def install() -> None:
    """Let `import` know the former names."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        # First: below a renamed package the ordinary finder would load a second copy.
        sys.meta_path.insert(0, MovedModules())
