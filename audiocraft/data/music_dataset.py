"""Data set of music: audio segments with metadata."""

import logging
import typing as tp
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ..errors import ConfigError, ManifestError
from ..utils.randomness import derive_generator
from .audio_dataset import CHECKED_FILES, AudioDataset
from .batch import Batch, SegmentInfo, stack_clips
from .conditions import WavCondition, wav_condition
from .manifest import AudioMeta
from .music_info import (
    READERS,
    InvalidInfoError,
    MusicInfo,
    augment_description,
    draw_paraphrase,
    draw_text_augmentation,
    load_music_info,
    load_paraphrases,
    paraphrase,
)

logger = logging.getLogger(__name__)


class MusicDataset(AudioDataset):
    """Segments of music with `MusicInfo`, read from a JSON file per audio file.

    Args:
        meta: File list.
        info_fields_required: Names of fields that every JSON file must have, though their value may
            be null; `True`: all fields of `MusicInfo`, `False`: none.
        merge_text_p: Probability of appending other fields to the description.
        drop_desc_p: Probability of omitting the description when fields are appended.
        drop_other_p: Probability of *keeping* a field when fields are appended. The name is from
            the original, whose released models were trained with this.
        paraphrase_source: File of paraphrases of descriptions, see `load_paraphrases`.
        paraphrase_p: Probability of replacing a description by a paraphrase.
        kwargs: Arguments of `AudioDataset`.

    Raises:
        ManifestError: No file has a duration within the limits.
        ConfigError: `return_info` is false.
    """

    def __init__(
        self,
        meta: tp.Sequence[AudioMeta],
        *,
        info_fields_required: bool | tp.Sequence[str] = False,
        merge_text_p: float = 0.0,
        drop_desc_p: float = 0.0,
        drop_other_p: float = 0.0,
        paraphrase_source: str | None = None,
        paraphrase_p: float = 0.0,
        return_info: bool = True,
        **kwargs: tp.Any,
    ):
        if not return_info:
            raise ConfigError("return_info=false is not supported by MusicDataset. Set it to true.")
        super().__init__(meta, return_info=True, **kwargs)
        if isinstance(info_fields_required, bool):
            info_fields_required = tuple(READERS) if info_fields_required else ()
        self.required_fields = tuple(info_fields_required)
        self.text_probabilities = (merge_text_p, drop_desc_p, drop_other_p)
        self.paraphrase_p = paraphrase_p
        self.paraphrases = load_paraphrases(paraphrase_source) if paraphrase_source else {}

    def get_info(self, file: int, segment: SegmentInfo, wav: Tensor, epoch: int, index: int):
        """Metadata of a segment, with augmented description."""
        meta = tp.cast(AudioMeta, segment.meta)
        info = self.load_info(file, segment, self_wav=self.style_clip(file, segment, wav))
        sampler = self.sampler
        rng = derive_generator("text", sampler.shuffle_seed, epoch if sampler.shuffle else 0, index)
        quantile = draw_paraphrase(self.paraphrase_p, rng)
        info = paraphrase(info, self.paraphrases_of(meta), quantile)
        augmentation = draw_text_augmentation(*self.text_probabilities, rng)
        return replace(info, description=augment_description(info, augmentation))

    def paraphrases_of(self, meta: AudioMeta) -> tp.Sequence[str]:
        """Paraphrases of a description, by the path of the audio or its name without extension."""
        if not self.paraphrases:
            return ()
        by_path = self.paraphrases.get(meta.path)
        return by_path or self.paraphrases.get(Path(meta.path).stem) or ()

    def style_clip(self, file: int, segment: SegmentInfo, wav: Tensor) -> WavCondition | None:
        """Clip for the style conditioner: the whole segment."""
        return wav_condition(
            wav,
            segment.sample_rate,
            length=segment.n_frames,
            path=segment.meta and segment.meta.path,
            seek_time=segment.seek_time,
        )

    def load_info(self, file: int, segment: SegmentInfo | None = None, **more: tp.Any) -> MusicInfo:
        """Load the metadata of the file with index `file`.

        Raises:
            ManifestError: The JSON file is missing, not a JSON object, or lacks a field.
        """
        meta = (segment and segment.meta) or self.meta[file]
        return load_music_info(meta, self.required_fields, segment, **more)

    def collater(self, samples: tp.Sequence[tp.Any]) -> Batch:
        """Join samples to a batch, whose waveforms are also the style clips."""
        batch = super().collater(samples)
        clips = [info.self_wav for info in batch.infos]
        infos = [replace(info, self_wav=None) for info in batch.infos]
        return replace(
            batch, infos=infos, style_clips=stack_clips(clips, tp.cast(Tensor, batch.wavs))
        )

    def check(self, limit: int = CHECKED_FILES) -> None:
        """Open some files and read their metadata.

        Raises:
            AudioError: None of the audio files can be read.
            ManifestError: A JSON file is missing or lacks a field, or none can be read.
        """
        super().check(limit)
        self.check_infos(limit)

    def check_infos(self, limit: int) -> None:
        """Read the metadata of some files, and warn about damaged ones.

        Raises:
            ManifestError: A JSON file is missing or lacks a field, or none can be read.
        """
        step = max(1, len(self.meta) // (limit * 32))  # JSON files are cheap to read
        files = range(0, len(self.meta), step)
        problems = []
        for file in files:
            try:
                self.load_info(file)
            except InvalidInfoError as error:
                problems.append(error)
        if len(problems) == len(files):
            raise ManifestError(
                f"None of {len(files)} JSON files can be read. First: {problems[0]}"
            )
        if problems:
            count = f"{len(problems)} of {len(files)}"
            logger.warning(
                "%s JSON files cannot be read; their audio is skipped. First: %s",
                count,
                problems[0],
            )
