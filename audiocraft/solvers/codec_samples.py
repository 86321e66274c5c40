"""Samples of a codec: originals and reconstructions side by side, with a picture."""

import json
import typing as tp
from pathlib import Path

import torch
from torch import Tensor

from ..data.audio import audio_write
from ..data.audio_utils import convert_audio
from ..metrics.codec_quality import MIN_SAMPLES, measure
from ..models.codecs.base import CompressionModel
from ..models.codecs.chunked_decoding import decode_chunked
from ..utils.pictures import figure_to_array, plot_side_by_side, save_figure
from .loggers import Loggers
from .sample_generation import ConditioningClip


class CodecSampleWriter:
    """Writes reconstructions of clips.

    For each clip: `NAME.original` and `NAME.reconstruction` as audio, `NAME.png` with both, and
    `NAME.json` with the source and what the metrics of `codec_quality` say.

    Args:
        folder: Usually `samples/<epoch>` in the folder of the experiment.
        loggers: Also shown there.
        audio: Keyword arguments of `audio_write`, such as `format`, `strategy` and the
            `sample_rate` of the files.
    """

    def __init__(self, folder: Path, loggers: Loggers, audio: dict[str, tp.Any]):
        self.folder = folder
        self.loggers = loggers
        self.audio = audio

    @torch.no_grad()
    def write(self, model: CompressionModel, clip: ConditioningClip, epoch: int) -> Path:
        """Encode and decode one clip and write the result; returns the path of the JSON file."""
        device = next(iter(model.state_dict().values())).device
        original = clip.wav.cpu()
        codes, scale = model.encode(original[None].to(device))
        decoded = decode_chunked(model, codes) if scale is None else model.decode(codes, scale)
        rebuilt = decoded[0, :, : original.shape[-1]].cpu()
        pair = {"original": original, "reconstruction": rebuilt}
        rate = model.sample_rate
        files = {name: self._write_audio(clip.name, name, wav, rate) for name, wav in pair.items()}
        description = {
            "path": clip.path,
            "seek_time": clip.seek_time,
            "epoch": epoch,
            "codebooks": codes.shape[1],
            "frames": codes.shape[2],
            **{name: path.name for name, path in files.items()},
            "quality": quality(original[None], rebuilt[None], rate),
        }
        path = self.folder / f"{clip.name}.json"
        path.write_text(json.dumps(description, indent=2), encoding="utf-8")
        figure = plot_side_by_side(pair, rate)
        save_figure(figure, self.folder / f"{clip.name}.png")
        for name, wav in pair.items():
            self.loggers.log_audio(f"samples/{clip.name}/{name}", wav, rate, epoch)
        self.loggers.log_image(f"samples/{clip.name}", figure_to_array(figure), epoch)
        return path

    def _write_audio(self, clip: str, kind: str, wav: Tensor, sample_rate: int) -> Path:
        options: dict[str, tp.Any] = {"sample_rate": sample_rate} | self.audio
        wav = convert_audio(wav, sample_rate, options["sample_rate"], wav.shape[0])
        return audio_write(self.folder / f"{clip}.{kind}", wav, **options)


def quality(original: Tensor, rebuilt: Tensor, sample_rate: int) -> dict[str, float]:
    """Metrics of `codec_quality` on mono mixes `[B, C, T]`; none where clips are too short."""
    if original.shape[-1] < MIN_SAMPLES:
        return {}
    one, other = (wav.mean(dim=1, keepdim=True).float() for wav in (original, rebuilt))
    return {name: float(v.mean()) for name, v in measure(one, other, sample_rate).items()}
