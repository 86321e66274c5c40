"""Replays the residual vector quantizer: evaluation, a training step, the first step."""

import functools

import torch

from audiocraft.quantization import ResidualVectorQuantizer

from ..deviations import deviation
from ..harness import adapter, assert_close

CONSTRUCTOR = {"n_q", "q_dropout", "bins", "dimension", "decay", "kmeans_init", "kmeans_iters"}
CONSTRUCTOR |= {"threshold_ema_dead_code", "orthogonal_reg_weight"}
CONSTRUCTOR |= {"orthogonal_reg_active_codes_only", "orthogonal_reg_max_codes"}


def is_evaluation(call):
    return call["name"].startswith("eval")


def is_start(call):
    return "state_prefix" not in call


def build(case, call):
    args = dict(call["args"])
    num_codebooks = args.pop("n_q") if is_evaluation(call) else None
    options = dict(case.meta["config"]) | {k: v for k, v in args.items() if k in CONSTRUCTOR}
    options["kmeans_init"] = is_start(call)
    if not is_evaluation(call):
        options.setdefault("decay", 0.99)
    rvq = ResidualVectorQuantizer(**options)
    if not is_start(call):
        rvq.load_state_dict(case.state(call["state_prefix"]), strict=True)
    if num_codebooks is not None:
        rvq.set_num_codebooks(num_codebooks)
    return rvq.train(not is_evaluation(call))


def replay_picks(rvq, inputs):
    """Replace random choices of rows by the recorded ones, in order."""
    recorded = iter([inputs[f"sampled{i}"] for i in range(len(inputs)) if f"sampled{i}" in inputs])
    for book in rvq.codebooks:
        book.pick_rows = functools.partial(next_pick, recorded)
    return recorded


def next_pick(recorded, rows, num, rng):
    picked = next(recorded)
    assert picked.shape == (num, rows.shape[1])
    return picked


def assert_same(actual, expected):
    for name in expected.keys() & actual.keys():
        assert_close(actual[name], expected[name])


@adapter("rvq")
def check(case, call):
    rvq, inputs, expected = build(case, call), case.inputs(call), case.outputs(call)
    replay_picks(rvq, inputs)
    x = inputs["x"].clone().requires_grad_("grad_x" in expected)
    if is_evaluation(call):
        codes = rvq.encode(x)
        assert_same({"codes": codes, "decoded": rvq.decode(codes)}, expected)

    result = rvq(x, call["args"].get("frame_rate", 50))
    named = {"forward_x": result.x, "forward_codes": result.codes}
    named |= {"bandwidth": result.bandwidth, "penalty": result.penalty}
    assert_same(named, expected)
    if not is_evaluation(call):
        assert_close(result.codes, expected["codes"])
    if "grad_x" in expected:
        ((result.x * inputs["w"]).sum() + 10 * result.penalty).backward()
        assert_close(x.grad, expected["grad_x"])
    state = {f"after/{key}": value for key, value in rvq.state_dict().items()}
    assert_same(state, expected)


def may_revive(case, call):
    """Return whether the recorded step replaced entries, which had no effect in the original."""
    if "sampled0" in call.get("in", {}):
        return True
    threshold = call["args"].get("threshold_ema_dead_code", 2)
    sizes = [
        value
        for name, value in case.state(call["state_prefix"]).items()
        if name.endswith("cluster_size")
    ]
    return not is_evaluation(call) and any((size < threshold).any() for size in sizes)


@deviation(
    "rvq",
    may_revive,
    "a revived entry was overwritten in the same step; ours stays where it was put",
)
def check_revival(case, call):
    rvq, inputs, expected = build(case, call), case.inputs(call), case.outputs(call)
    if is_start(call):
        replay_picks(rvq, inputs)
    for book in rvq.codebooks:
        book.proposed = []
        book.pick_rows = functools.partial(noted_pick, book.pick_rows, book.proposed)

    result = rvq(inputs["x"], call["args"].get("frame_rate", 50))

    assert_close(result.x, expected["forward_x"])
    assert_close(result.codes, expected["codes"])
    assert_close(result.penalty, expected["penalty"])
    for i, book in enumerate(rvq.codebooks):
        assert_live_agree_and_dead_stay(book, expected, f"after/vq.layers.{i}._codebook.")


def noted_pick(pick, proposed, *args):
    proposed.append(pick(*args))
    return proposed[-1]


def assert_live_agree_and_dead_stay(book, expected, prefix):
    revived = torch.zeros(len(book.embed), dtype=torch.bool)
    for rows in book.proposed:
        revived |= (book.embed == rows).all(dim=1)
    assert_close(book.inited, expected[prefix + "inited"])
    for name in ("embed", "embed_avg", "cluster_size"):
        assert_close(getattr(book, name)[~revived], expected[prefix + name][~revived])
    # The averages agree with the entry, so that the next update does not change it.
    assert_close(book.embed_avg, book.embed * book.cluster_size[:, None], atol=1e-3)
