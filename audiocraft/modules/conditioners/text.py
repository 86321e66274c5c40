"""Text conditioners: T5 and lookup table.

`T5Conditioner` is that of released models: a frozen T5 encoder. `LUTConditioner` learns a vector
for every word from scratch and needs no download.

Method: T5: Raffel et al., 2019, https://arxiv.org/abs/1910.10683.
"""

import hashlib
import re
import typing as tp
from functools import partial

import torch
from torch import Tensor, nn

from ...errors import CheckpointError
from ...utils.device import to_device
from ...utils.text import valid_unicode
from ..frozen import Frozen
from .base import Condition, Rng, TextConditioner, generator_for, length_to_mask

T5_DIMS = {  # width of the encoder, by the last component of the name
    "t5-small": 512,
    "t5-base": 768,
    "t5-large": 1024,
    "t5-3b": 1024,
    "t5-11b": 1024,
    "flan-t5-small": 512,
    "flan-t5-base": 768,
    "flan-t5-large": 1024,
    "flan-t5-xl": 2048,
    "flan-t5-xxl": 4096,
}


class Tokens(tp.NamedTuple):
    """Tokenized texts."""

    ids: Tensor  # [B, P] long
    mask: Tensor  # [B, P] bool, True where a token is valid


class PretrainedText(nn.Module):
    """A tokenizer and an encoder of the `transformers` library; in float32."""

    def __init__(self, tokenizer: tp.Any, encoder: nn.Module):
        super().__init__()
        self.tokenizer = tokenizer
        self.encoder = encoder.float()

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Tokens `[B, P]` to hidden states `[B, P, dim]`."""
        with torch.autocast(ids.device.type, enabled=False):
            return self.encoder(ids, attention_mask=mask.long()).last_hidden_state


def hash_trick(word: str, vocab_size: int) -> int:
    """Hash a word to an index below `vocab_size`."""
    return int(hashlib.sha256(word.encode("utf-8")).hexdigest(), 16) % vocab_size


def split_words(text: str) -> list[str]:
    """Split a text into words: lower case, without punctuation, except the sharp of a key."""
    return re.findall(r"\w+#?", text.lower())


def tokenize_whole(text: str | None) -> list[str]:
    """Take the whole text, which may be empty, as one token; `None` has no token."""
    return [] if text is None else [text]


def tokenize_words(text: str | None) -> list[str]:
    """Split a text into one token per word."""
    return split_words(text or "")


LUT_TOKENIZERS = {"noop": tokenize_whole, "whitespace": tokenize_words}


class LUTConditioner(TextConditioner):
    """Learned vector for each token.

    Tokens are indexed by a hash, so there is no vocabulary; two words may share an index.

    Args:
        n_bins: Rows of the table.
        dim: Width of the table.
        output_dim: Width of the language model.
        tokenizer: `noop` (the whole text is one token) or `whitespace` (one token per word).

    Raises:
        ValueError: The tokenizer is unknown.
    """

    def __init__(self, n_bins: int, dim: int, output_dim: int, tokenizer: str = "whitespace"):
        super().__init__(dim, output_dim)
        if tokenizer not in LUT_TOKENIZERS:
            raise ValueError(
                f"lut.tokenizer is {tokenizer!r}. Choose one of: {', '.join(LUT_TOKENIZERS)}."
            )
        self.n_bins = n_bins
        self.tokenize = LUT_TOKENIZERS[tokenizer]
        self.embed = nn.Embedding(n_bins, dim)

    def prepare(self, values: list[str | None], rng: Rng = None) -> Tokens:
        texts = [text and valid_unicode(text) for text in values]
        rows = [[hash_trick(word, self.n_bins) for word in self.tokenize(text)] for text in texts]
        return pad_tokens(rows)

    def forward(self, prepared: Tokens) -> Condition:
        ids, mask = (to_device(tensor, self.device) for tensor in prepared)
        return self.project(self.embed(ids), mask)


def pad_tokens(rows: list[list[int]]) -> Tokens:
    """Pad lists of token indices to one tensor, at least one step wide."""
    width = max([1, *map(len, rows)])
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    return Tokens(ids, length_to_mask(torch.tensor([len(row) for row in rows]), width))


class T5Conditioner(TextConditioner):
    """Pretrained T5 encoder, in float32, and a projection.

    The encoder is loaded at the first text that is not null, or at once if it is fine-tuned.

    Args:
        name: Name of the pretrained model.
        output_dim: Width of the language model.
        load: Loads the tokenizer and the encoder by name.
        dim: Width of the encoder; `None`: that of the named model.
        finetune: Train the encoder; it is then part of the checkpoint.
        word_dropout: Probability that a word is dropped in training.
        normalize_text: Convert to lower case and remove punctuation.

    Raises:
        ValueError: The name is unknown and no `dim` is given.
        CheckpointError: `finetune` is set, and the tokenizer has no vocabulary.
    """

    def __init__(
        self,
        name: str,
        output_dim: int,
        *,
        load: tp.Callable[[str], PretrainedText],
        dim: int | None = None,
        finetune: bool = False,
        word_dropout: float = 0.0,
        normalize_text: bool = False,
    ):
        super().__init__(_dim_of(name) if dim is None else dim, output_dim)
        self.name = name
        self.finetune = finetune
        self.word_dropout = word_dropout
        self.normalize_text = normalize_text
        load_t5 = partial(_load_checked, load, name)
        self._frozen = Frozen(load_t5)
        self.t5 = load_t5() if finetune else None

    @property
    def pretrained(self) -> PretrainedText:
        """Tokenizer and encoder; loads them if necessary."""
        return self._frozen.module if self.t5 is None else self.t5

    def prepare(self, values: list[str | None], rng: Rng = None) -> Tokens:
        training = self.training_generators(rng)
        texts = [
            self._clean(valid_unicode(text or ""), generator_for(training, i))
            for i, text in enumerate(values)
        ]
        if not any(texts):
            return pad_tokens([[] for _ in texts])
        tokens = self.pretrained.tokenizer(texts, return_tensors="pt", padding=True)
        present = torch.tensor([bool(text) for text in texts])
        return Tokens(tokens["input_ids"], tokens["attention_mask"].bool() & present[:, None])

    def forward(self, prepared: Tokens) -> Condition:
        ids, mask = (to_device(tensor, self.device) for tensor in prepared)
        if self.t5 is not None:
            hidden = self.t5(ids, mask)
        elif prepared.mask.any():
            hidden = self._frozen(ids, mask)
        else:  # no text: the encoder is not needed
            hidden = torch.zeros(*ids.shape, self.dim, device=self.device)
        return self.project(hidden, mask)

    def _clean(self, text: str, rng: torch.Generator | None) -> str:
        """Normalise a text, and drop words if a generator is given, as configured."""
        if self.normalize_text:
            text = " ".join(split_words(text))
        if self.word_dropout and rng is not None:
            words = text.split()
            kept = torch.rand(len(words), generator=rng) >= self.word_dropout
            text = " ".join(word for word, keep in zip(words, kept.tolist()) if keep)
        return text


def _dim_of(name: str) -> int:
    kind = name.rstrip("/").split("/")[-1]  # of a name, a folder or a hub id
    if kind not in T5_DIMS:
        raise ValueError(
            f"t5.name is {name!r}, which is not supported. Choose one of: {', '.join(T5_DIMS)}."
        )
    return T5_DIMS[kind]


def _load_checked(load: tp.Callable[[str], PretrainedText], name: str) -> PretrainedText:
    """Load tokenizer and encoder, and check the size of the vocabulary.

    Offline, the library silently returns a tokenizer without vocabulary.

    Raises:
        CheckpointError: The vocabulary is missing.
    """
    pretrained = load(name)
    size = len(pretrained.tokenizer)
    expected = tp.cast(tp.Any, pretrained.encoder).config.vocab_size
    if size < expected // 2:
        raise CheckpointError(
            f"The tokenizer of {name!r} has {size} tokens but its encoder expects {expected}: the "
            "vocabulary file is missing. Put spiece.model or tokenizer.json beside the weights, "
            "or download the model again."
        )
    return pretrained
