"""Vocabulary of a T5, trained on a small corpus."""

from pathlib import Path

import sentencepiece

CORPUS = ["calm piano with soft strings", "fast drums and a loud bass line", "80s pop, synth"] * 20


def write_vocabulary(folder: Path) -> None:
    """Write `spiece.model`, as T5 has it, for the words of `CORPUS`."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_prefix=str(folder / "spiece"),
        vocab_size=40,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (folder / "spiece.vocab").unlink()
