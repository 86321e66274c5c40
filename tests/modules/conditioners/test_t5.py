"""T5 conditioner with a tiny T5 of transformers and random weights."""

import copy

import pytest
import torch
import transformers

from audiocraft.errors import CheckpointError
from audiocraft.modules.conditioners import BatchGenerators, PretrainedText, T5Conditioner
from tests.tiny_t5 import write_vocabulary


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("t5")
    write_vocabulary(folder)
    return transformers.T5Tokenizer.from_pretrained(folder, extra_ids=0)


@pytest.fixture(scope="module")
def encoder(tokenizer):
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=len(tokenizer), d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=4
    )
    return transformers.T5EncoderModel(config)


@pytest.fixture
def t5(tokenizer, encoder):
    def make(**options):
        torch.manual_seed(0)
        load = lambda name: PretrainedText(tokenizer, encoder)  # noqa: E731
        return T5Conditioner("tiny", 6, load=load, dim=16, **options)

    return make


def read(conditioner, texts, rng=None):
    return conditioner(conditioner.prepare(texts, rng))


def test_embedding_does_not_depend_on_the_rest_of_the_batch(t5):
    conditioner = t5()
    alone = read(conditioner, ["calm piano"])
    beside = read(conditioner, ["calm piano", "fast drums and a loud bass line"])
    steps = alone.embed.shape[1]
    torch.testing.assert_close(beside.embed[:1, :steps], alone.embed)
    assert not beside.embed[0, steps:].any()
    assert not beside.mask[0, steps:].any()


@pytest.mark.parametrize("null", [None, ""])
def test_null_text_is_zero(t5, null):
    condition = read(t5(), [null, "calm piano"])
    assert not condition.embed[0].any()
    assert not condition.mask[0].any()
    assert condition.embed[1].any()


def test_batch_of_null_texts_does_not_load_the_encoder():
    def load(name):
        raise AssertionError("loaded")

    condition = read(T5Conditioner("t5-base", 6, load=load), [None, ""])
    assert condition.embed.shape == (2, 1, 6)
    assert not condition.embed.any()


def test_frozen_encoder_is_not_part_of_the_weights(t5):
    conditioner = t5()
    read(conditioner, ["calm piano"]).embed.sum().backward()
    assert set(conditioner.state_dict()) == {"output_proj.weight", "output_proj.bias"}


def test_fine_tuned_encoder_gets_gradients(t5):
    conditioner = t5(finetune=True).train()
    conditioner.requires_grad_(True)
    read(conditioner, ["calm piano"]).embed.sum().backward()
    trained = [name for name, p in conditioner.named_parameters() if p.grad is not None]
    assert any(name.startswith("t5.") for name in trained)


def test_encoder_runs_in_float32_under_autocast(t5):
    conditioner = t5()
    plain = read(conditioner, ["calm piano"]).embed
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = read(conditioner, ["calm piano"]).embed
    assert mixed.dtype == torch.bfloat16  # only the projection
    torch.testing.assert_close(mixed.float(), plain, atol=0.05, rtol=0.05)


def test_words_are_dropped_in_training_only(t5):
    conditioner = t5(word_dropout=0.5)
    text = ["fast drums and a loud bass line"] * 30
    generator = torch.Generator().manual_seed(0)
    rng = BatchGenerators(generator, [generator] * len(text))
    full = conditioner.eval().prepare(text, rng).mask.sum()
    assert conditioner.train().prepare(text, rng).mask.sum() < 0.75 * full
    assert conditioner.prepare(text).mask.sum() == full


def test_normalised_texts_ignore_case_and_punctuation(t5):
    conditioner = t5(normalize_text=True)
    ids = conditioner.prepare(["Calm Piano!", "calm piano"]).ids
    assert torch.equal(ids[0], ids[1])


def test_tokenizer_without_vocabulary_raises(encoder):
    class Empty:
        def __len__(self):
            return 4

    load = lambda name: PretrainedText(Empty(), encoder)  # noqa: E731
    conditioner = T5Conditioner("t5-base", 6, load=load, dim=16)
    with pytest.raises(CheckpointError, match="4 tokens"):
        conditioner.prepare(["calm piano"])


def test_copies_share_a_frozen_encoder(t5):
    conditioner = t5()
    read(conditioner, ["calm piano"])
    assert copy.deepcopy(conditioner).pretrained is conditioner.pretrained


@pytest.mark.parametrize("name", ["t5-base", "google-t5/t5-base", "/models/t5-base/"])
def test_width_depends_on_the_last_component_of_the_name(name):
    assert T5Conditioner(name, 6, load=lambda name: None).dim == 768


def test_unknown_encoder_raises():
    with pytest.raises(ValueError, match="'t5-huge'"):
        T5Conditioner("t5-huge", 6, load=lambda name: None)
