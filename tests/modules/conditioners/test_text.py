import pytest
import torch

from audiocraft.modules.conditioners import LUTConditioner
from audiocraft.modules.conditioners.text import hash_trick, split_words


def test_token_of_a_word_is_deterministic():
    assert hash_trick("piano", 1000) == hash_trick("piano", 1000)
    assert 0 <= hash_trick("été", 7) < 7


def test_normalization_removes_case_and_punctuation_but_keeps_sharps():
    assert split_words("Key: C# minor, 80s-Rock!") == ["key", "c#", "minor", "80s", "rock"]


def test_word_order_only_permutes_embeddings():
    lut = LUTConditioner(n_bins=1000, dim=8, output_dim=4)
    condition = lut(lut.prepare(["calm piano", "Piano, calm"]))
    torch.testing.assert_close(condition.embed[0], condition.embed[1].flip(0))


@pytest.mark.parametrize("text", [None, "", " ,!"])
def test_text_without_words_is_null(text):
    lut = LUTConditioner(n_bins=10, dim=8, output_dim=4)
    condition = lut(lut.prepare([text, "two words"]))
    assert condition.mask.tolist() == [[False, False], [True, True]]
    assert not condition.embed[0].any()


@pytest.mark.parametrize("tokenizer", ["noop", "whitespace"])
def test_text_that_is_not_valid_unicode_is_encoded(tokenizer):
    lut = LUTConditioner(n_bins=10, dim=8, output_dim=4, tokenizer=tokenizer)
    assert lut(lut.prepare(["half an emoji \ud83c and \0"])).mask.any()


def test_batch_of_null_texts_is_one_zero_step():
    lut = LUTConditioner(n_bins=10, dim=8, output_dim=4)
    condition = lut(lut.prepare([None, None]))
    assert condition.embed.shape == (2, 1, 4)
    assert not condition.embed.any()


def test_empty_text_is_a_value_for_the_noop_tokenizer():
    # As recorded: with `noop` any string is a value, and only `None` is null.
    lut = LUTConditioner(n_bins=10, dim=8, output_dim=4, tokenizer="noop")
    assert lut.prepare(["", None]).mask.tolist() == [[True], [False]]


def test_unknown_tokenizer_raises():
    with pytest.raises(ValueError, match="'bpe'"):
        LUTConditioner(n_bins=10, dim=8, output_dim=4, tokenizer="bpe")
