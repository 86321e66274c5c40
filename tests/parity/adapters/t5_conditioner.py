"""Replays `t5_conditioner` with an encoder that returns recorded hidden states."""

import re
from types import SimpleNamespace

import torch

from audiocraft.modules.conditioners import PretrainedText, T5Conditioner

from ..harness import adapter, assert_close, recipe


class RecordedEncoder(torch.nn.Module):
    config = SimpleNamespace(vocab_size=256)

    def __init__(self, hidden):
        super().__init__()
        self.hidden = hidden

    def forward(self, ids, attention_mask):
        self.seen = attention_mask
        B, P = ids.shape
        return SimpleNamespace(last_hidden_state=self.hidden[:B, :P])


class RecordedTokenizer:
    def __init__(self, ids, mask):
        self.tokens = {"input_ids": ids, "attention_mask": mask}

    def __len__(self):
        return 256

    def __call__(self, texts, return_tensors, padding):
        return self.tokens


@adapter("t5_conditioner")
def check(case, call):
    inputs, expected = case.inputs(call), case.outputs(call)
    tokenizer = RecordedTokenizer(inputs["input_ids"], inputs["raw_attention_mask"])
    key, shape = re.search(r'recipe\(seed, "(.+?)", \[(.+?)\]\)', case.meta["note"]).groups()
    hidden = recipe(case.meta["hidden_seed"], key, [int(size) for size in shape.split(",")])
    pretrained = PretrainedText(tokenizer, RecordedEncoder(hidden))
    t5 = T5Conditioner(load=lambda name: pretrained, **case.meta["config"])
    t5.load_state_dict(case.state())

    condition = t5(t5.prepare(call["args"]["texts"]))

    assert_close(pretrained.encoder.seen, expected["mask_seen_by_encoder"])
    assert_close(condition.mask.long(), expected["mask"])
    assert_close(condition.embed, expected["embeds"])
