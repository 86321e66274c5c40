"""A data set of music: audio segments with what is known about them."""

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
    """Segments of music with their `MusicInfo`, read from a JSON file per audio file.

    Args:
        meta: The files.
        required_fields: Fields that every JSON file must have, though they may be null.
        merge_text_p: Probability that other fields are appended to the description.
        drop_desc_p: Then: probability that the description itself is left out.
        drop_other_p: And that a field is *kept*, as released models were trained.
        paraphrase_source: Other wordings of descriptions, see `load_paraphrases`.
        paraphrase_p: Probability that one of them is taken.
        kwargs: As for `AudioDataset`.

    Raises:
        ManifestError: No file can be used.
        ConfigError: `return_info` is false.
    """

    def __init__(
        self,
        meta: tp.Sequence[AudioMeta],
        *,
        required_fields: tp.Sequence[str] = (),
        merge_text_p: float = 0.0,
        drop_desc_p: float = 0.0,
        drop_other_p: float = 0.0,
        paraphrase_source: str | None = None,
        paraphrase_p: float = 0.0,
        return_info: bool = True,
        **kwargs: tp.Any,
    ):
        if not return_info:
            raise ConfigError("A music data set is about its metadata: leave return_info true.")
        super().__init__(meta, return_info=True, **kwargs)
        self.required_fields = tuple(required_fields)
        self.text_chances = (merge_text_p, drop_desc_p, drop_other_p)
        self.paraphrase_p = paraphrase_p
        self.paraphrases = load_paraphrases(paraphrase_source) if paraphrase_source else {}

    def describe(self, file: int, segment: SegmentInfo, wav: Tensor, epoch: int, index: int):
        """The metadata of a segment, its description augmented."""
        meta = tp.cast(AudioMeta, segment.meta)
        info = self.load_info(file, segment, self_wav=self.style_clip(file, segment, wav))
        sampler = self.sampler
        rng = derive_generator("text", sampler.shuffle_seed, epoch if sampler.shuffle else 0, index)
        wording = draw_paraphrase(self.paraphrase_p, rng)
        info = paraphrase(info, self.paraphrases_of(meta), wording)
        augmentation = draw_text_augmentation(*self.text_chances, rng)
        return replace(info, description=augment_description(info, augmentation))

    def paraphrases_of(self, meta: AudioMeta) -> tp.Sequence[str]:
        """Other wordings of a description, by the path of the audio or its name alone."""
        if not self.paraphrases:
            return ()
        by_path = self.paraphrases.get(meta.path)
        return by_path or self.paraphrases.get(Path(meta.path).stem) or ()

    def style_clip(self, file: int, segment: SegmentInfo, wav: Tensor) -> WavCondition | None:
        """What the style conditioner may hear of a segment: all of it."""
        return wav_condition(
            wav,
            segment.sample_rate,
            length=segment.n_frames,
            path=segment.meta and segment.meta.path,
            seek_time=segment.seek_time,
        )

    def load_info(self, file: int, segment: SegmentInfo | None = None, **more: tp.Any) -> MusicInfo:
        """What is known about the file with that number.

        Raises:
            ManifestError: Its JSON file is missing, is something else, or lacks a field.
        """
        meta = (segment and segment.meta) or self.meta[file]
        return load_music_info(meta, self.required_fields, segment, **more)

    def collater(self, samples: tp.Sequence[tp.Any]) -> Batch:
        """Join samples to a batch; the waveforms are the style clips as well."""
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
        """Read the metadata of some files; a damaged one among good ones is named.

        Raises:
            ManifestError: A JSON file is missing or lacks a field, or none can be read.
        """
        step = max(1, len(self.meta) // (limit * 32))  # JSON files cost little
        files = range(0, len(self.meta), step)
        problems = []
        for file in files:
            try:
                self.load_info(file)
            except InvalidInfoError as error:
                problems.append(error)
        if len(problems) == len(files):
            raise ManifestError(f"None of {len(files)} JSON files can be read. {problems[0]}")
        if problems:
            told = f"{len(problems)} of {len(files)} JSON files cannot be read, such as"
            logger.warning("%s: %s Their audio will be skipped.", told, problems[0])
