"""Replays the language model: logits, guided greedy generation, three training steps."""

import ast
from dataclasses import dataclass

import torch
from torch import nn

from audiocraft.models.generation.decoding import Decoder, generate_tokens
from audiocraft.models.generation.guidance import Branch, Guidance
from audiocraft.models.lm import LMModel
from audiocraft.modules import codebooks_patterns as patterns
from audiocraft.modules.conditioners.base import Condition
from audiocraft.modules.conditioners.fuser import ConditionFuser
from audiocraft.modules.sampling import Sampling
from audiocraft.solvers.cross_entropy import codebook_cross_entropy

from ..deviations import deviation
from ..harness import adapter, assert_close

PROVIDERS = {
    "delay": patterns.DelayedPatternProvider,
    "parallel": patterns.ParallelPatternProvider,
    "unroll": patterns.UnrolledPatternProvider,
    "coarse_first": patterns.CoarseFirstPattern,
    "music_lm": patterns.MusicLMPattern,
}
GREEDY = Sampling(temperature=0)


class StoredConditions(nn.Module):
    """Condition provider of the recorded models: returns stored conditions."""

    wav_conditions = ("self_wav",)


def pattern_provider(text, n_q):
    """Build from `delay`, or `DelayedPatternProvider{'n_q': 4, …}`."""
    if text in PROVIDERS:
        return PROVIDERS[text](n_q)
    name, _, arguments = text.partition("{")
    arguments = ast.literal_eval("{" + arguments)
    if name == "ParallelPatternProvider":
        arguments.pop("delays", None)
    return getattr(patterns, name)(**arguments)


def build(case):
    config = dict(case.meta["config"])
    beside = [key for key in config if key.startswith("cross_attention_pos_emb")]
    fuser = ConditionFuser(config.pop("fuse2cond"), **{key: config.pop(key) for key in beside})
    provider = pattern_provider(case.meta["pattern"], config["n_q"])
    lm = LMModel(provider, StoredConditions(), fuser, **config).eval()
    lm.load_state_dict(case.state())
    return lm


def conditions_of(call, inputs, index=0):
    """Return the conditions of call number `index` of the recorded provider."""
    order = call["args"]["condition_order"]
    names = order[index] if order and isinstance(order[0], list) else order
    return {
        name: Condition(
            inputs[f"cond{index}/{name}/embed"], inputs[f"cond{index}/{name}/mask"].bool()
        )
        for name in names
    }


def first_items(conditions, count):
    return {
        name: Condition(condition.embed[:count], condition.mask[:count])
        for name, condition in conditions.items()
    }


@dataclass(frozen=True, kw_only=True)
class RecordedNulls(Guidance):
    """Two-pass guidance with the recorded null conditions."""

    nulls: dict

    def expand(self, conditions, style_names=()):
        return [Branch(conditions, self.cfg_coef), Branch(self.nulls, 1 - self.cfg_coef)]


def guidance_of(call, inputs):
    args = call["args"]
    coef = args.get("cfg_coef", args["model_cfg_coef"])
    if args.get("two_step_cfg"):
        return RecordedNulls(cfg_coef=coef, two_step=True, nulls=conditions_of(call, inputs, 1))
    return Guidance(cfg_coef=coef, cfg_coef_beta=args.get("cfg_coef_beta"))


def check_predictions(lm, case, call):
    inputs, outputs = case.inputs(call), case.outputs(call)
    conditions, codes = conditions_of(call, inputs), inputs["codes"]
    valid = call["args"].get("keep_only_valid_steps", True)
    output = lm.compute_predictions(codes, conditions, keep_only_valid_steps=valid)
    assert_close(output.logits, outputs["logits"], atol=1e-4)
    assert_close(output.mask, outputs["mask"])
    pattern = lm.pattern_provider.get_pattern(codes.shape[-1])
    sequence = pattern.build_pattern_sequence(codes, lm.card).values
    assert_close(lm(sequence, conditions), outputs["sequence_logits"], atol=1e-4)


def check_generation(lm, case, call):
    inputs, outputs, args = case.inputs(call), case.outputs(call), call["args"]
    tokens, prompt = outputs["tokens"], inputs.get("prompt")
    guidance, conditions = guidance_of(call, inputs), {}
    if args["condition_order"]:
        recorded = conditions_of(call, inputs)
        conditions = first_items(recorded, len(tokens))
        if (
            not guidance.two_step
        ):  # the recorded batch equals ours: all conditions, style only, none
            for branch in guidance.expand(conditions, StoredConditions.wav_conditions):
                assert_recorded(branch.conditions, recorded)

    options = {"sampling": GREEDY, "guidance": guidance, "prompt": prompt}
    codes = generate_tokens(
        lm,
        conditions,
        max_gen_len=args["max_gen_len"],
        num_samples=args.get("num_samples"),
        remove_prompts=args.get("remove_prompts", False),
        **options,
    )
    assert_close(codes, tokens)

    whole = generate_tokens(
        lm, conditions, max_gen_len=args["max_gen_len"], num_samples=len(tokens), **options
    )
    logits = step_logits(lm, conditions, guidance, whole, 0 if prompt is None else prompt.shape[2])
    assert_close(logits, outputs["step_logits"], atol=1e-4)


def assert_recorded(conditions, recorded):
    """Assert that the conditions of one branch are a part of the recorded batch."""
    for name, condition in conditions.items():
        parts = recorded[name].embed.split(len(condition.embed))
        assert any(torch.equal(condition.embed, part) for part in parts)


def step_logits(lm, conditions, guidance, codes, num_known):
    """Return the logits of each decoding step towards `codes`, `[steps, B, K, V]`."""
    pattern = lm.pattern_provider.get_pattern(codes.shape[-1])
    sequence = pattern.build_pattern_sequence(codes, lm.special_token_id).values
    first = pattern.get_first_step_with_timesteps(num_known)
    decoder = Decoder(lm, conditions, guidance, len(codes), pattern.num_steps)
    logits = [decoder.step(sequence[..., :first])]
    for step in range(first, pattern.num_steps - 1):
        logits.append(decoder.step(sequence[..., step : step + 1]))
    return torch.stack(logits)


@adapter("lm_")
@torch.no_grad()
def check(case, call):
    generates = "tokens" in call["out"]
    (check_generation if generates else check_predictions)(build(case), case, call)


@adapter("lm_train_steps")
def check_training(case, call):
    lm = build(case).train()
    args, inputs, outputs = call["args"], case.inputs(call), case.outputs(call)
    optimizer = torch.optim.AdamW(
        lm.param_groups(),
        lr=args["lr"],
        betas=args["betas"],
        eps=args["eps"],
        weight_decay=args["weight_decay"],
    )
    order = args.get("condition_order") or call["condition_order"]
    conditions = conditions_of({"args": {"condition_order": order}}, inputs)
    losses, norms = [], []
    for _ in outputs["ce"]:
        output = lm.compute_predictions(inputs["codes"], conditions)
        mask = inputs["padding_mask"] & output.mask & inputs["style_mask"]
        assert_close(mask, outputs["final_mask"])
        loss, _ = codebook_cross_entropy(output.logits, inputs["codes"], mask)
        optimizer.zero_grad()
        loss.backward()
        norms.append(nn.utils.clip_grad_norm_(lm.parameters(), 1.0))
        if len(norms) == 1:
            check_named(outputs, "grad_clipped/", lambda name: lm.get_parameter(name).grad)
        optimizer.step()
        losses.append(loss.detach())
    assert_close(torch.stack(losses), outputs["ce"])
    assert_close(torch.stack(norms), outputs["grad_norm"], atol=1e-4, rtol=1e-4)
    check_named(outputs, "after/", lm.state_dict().__getitem__)


def check_named(outputs, prefix, get):
    for name, expected in outputs.items():
        if name.startswith(prefix):
            assert_close(get(name.removeprefix(prefix)), expected)


def ignores_the_coefficient(case, call):
    args = call["args"]
    coef = args.get("cfg_coef")
    return bool(args.get("two_step_cfg")) and coef not in (None, args["model_cfg_coef"])


@deviation("lm_", ignores_the_coefficient, "two-pass guidance ignored the caller's coefficient")
@torch.no_grad()
def check_coefficient_is_used(case, call):
    """Assert that our codes equal uncached greedy decoding with the coefficient of the caller.

    With the coefficient that the original used instead, they equal the recorded codes.
    """
    lm, inputs, args = build(case), case.inputs(call), call["args"]
    without = {key: value for key, value in args.items() if key != "cfg_coef"}
    check_generation(lm, case, call | {"args": without})
    given, null = conditions_of(call, inputs), conditions_of(call, inputs, 1)
    batch_size, length = len(case.outputs(call)["tokens"]), args["max_gen_len"]
    ours = generate_tokens(
        lm, given, max_gen_len=length, sampling=GREEDY, guidance=guidance_of(call, inputs)
    )

    pattern = lm.pattern_provider.get_pattern(length)
    unknown = torch.zeros(batch_size, lm.num_codebooks, length, dtype=torch.long)
    sequence, _, mask = pattern.build_pattern_sequence(unknown, lm.card)
    for step in range(1, pattern.num_steps):
        so_far = sequence[..., :step]
        without = lm(so_far, null)[:, :, -1]
        guided = without + args["cfg_coef"] * (lm(so_far, given)[:, :, -1] - without)
        best = guided.argmax(dim=-1)
        sequence[..., step] = torch.where(mask[:, step], best, sequence[..., step])
    assert_close(ours, pattern.revert_pattern_sequence(sequence, -1).values)
