"""`python -m audiocraft generate`: music as files, each with the recipe to make it again."""

import argparse
import dataclasses
import typing as tp
from contextlib import contextmanager
from pathlib import Path

import torch
from tqdm.auto import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..data.io.encoders import FORMATS
from ..errors import AudiocraftError, AudioError, ConfigError
from ..inference.output_folder import missing_tasks
from ..inference.prompts import Task, expand_variations, read_prompts
from ..inference.recipe import Recipe
from ..inference.request import Request
from ..inference.sample_generator import SampleGenerator, hash_waveform, write_sample
from ..models.musicgen import MusicGen
from .parser import CommandParser

BUNDLED = "//bundled/musicgen_style_tiny"
RELEASED = "facebook/musicgen-style"

HELP = {  # fields of `Request`
    "text": "what it shall sound like, in a sentence",
    "style": "a clip in whose style it shall be",
    "duration": "seconds",
    "guidance": "how closely text and style are followed; 1 does not push (cfg_coef)",
    "text_weight": "with text and style: higher means more of the TEXT, 1 to 9 (cfg_coef_beta)",
    "style_detail": "how closely the clip is followed: 1 is loose, 6 is close (eval_q)",
    "excerpt_length": "seconds of the clip that are heard, 1.5 to 4.5",
    "excerpt_start": "second of the clip at which they start; drawn from the seed if not given",
    "temperature": "less is more careful, 0 always takes the likeliest token",
    "top_k": "choose among so many tokens; 0 is all",
    "top_p": "choose among the likeliest tokens that sum to this; 0 is off",
    "extend_stride": "in pieces longer than the model's window: seconds that each window adds",
}
NUMBERS = {"style_detail": int, "top_k": int}
STYLE_OPTIONS = ("text_weight", "style_detail", "excerpt_length", "excerpt_start")
REPRODUCE_OPTIONS = (
    "style",
    "model",
    "device",
    "out",
    "format",
    "pictures",
)  # go with --from-recipe
DEFAULTS = {field.name: field.default for field in dataclasses.fields(Request)}


def default_model() -> str:
    """The released model where there is a GPU for it, else the bundled one."""
    return RELEASED if torch.cuda.is_available() else BUNDLED


def get_parser() -> CommandParser:
    """The command's arguments."""
    parser = CommandParser("generate", main.__doc__)
    what = parser.add_argument_group("what to make")
    for name, text in HELP.items():
        default = DEFAULTS[name]
        shown = "" if default is None else f" [{default:g}]"
        kind = str if name in ("text", "style") else NUMBERS.get(name, float)
        what.add_argument(f"--{name.replace('_', '-')}", type=kind, help=text + shown)
    what.add_argument("--prompts", type=Path, help="a table (CSV, JSON lines) of any of the above")
    what.add_argument("--count", type=int, default=1, help="variations of each [1]")
    what.add_argument("--seed", type=int, help="of the first piece; the others count up from it")
    what.add_argument(
        "--from-recipe", type=Path, help="make the piece of a JSON again, bit for bit"
    )
    how = parser.add_argument_group("how")
    how.add_argument(
        "--model",
        help=f"hub id, //sig/SIG, //bundled/NAME or a folder [{RELEASED} on a GPU, else {BUNDLED}]",
    )
    how.add_argument("--device", help="cuda, mps or cpu [the best there is]")
    how.add_argument("--batch-size", type=int, default=4, help="pieces computed at once [4]")
    how.add_argument("--out", type=Path, default=Path("generated"), help="folder [generated]")
    how.add_argument("--format", choices=sorted(FORMATS), default="wav", help="of the audio [wav]")
    how.add_argument("--pictures", action="store_true", help="also draw what is heard")
    how.add_argument("--overwrite", action="store_true", help="make pieces anew that are there")
    return parser


def main(argv: tp.Sequence[str]) -> int:
    """Make music from text, from a clip, or from both.

    Every piece lies in the folder with a recipe. The same command goes on where it was stopped.
    """
    args = get_parser().parse_args(argv)
    if args.batch_size < 1 or args.count < 1:
        raise ConfigError("--batch-size and --count must be at least 1.")
    if args.out.is_file():
        raise ConfigError(f"--out {args.out} is a file: give a folder.")
    try:
        return reproduce_sample(args) if args.from_recipe else generate(args)
    except OSError as error:
        raise AudiocraftError(
            f"{error.filename or args.out} cannot be written: {error.strerror}. What is finished "
            "is kept; the same command goes on."
        ) from error


def generate(args: argparse.Namespace) -> int:
    """Make everything that was asked for and is not in the folder yet."""
    seed_is_free = args.seed is None
    seed = torch.seed() % 2**31 if seed_is_free else args.seed
    tasks = tasks_of(args, seed)
    idle = [
        f"--{name.replace('_', '-')}" for name in STYLE_OPTIONS if getattr(args, name) is not None
    ]
    if idle and not any(task.request.style for task in tasks):
        print(f"Without a style clip this changes nothing: {', '.join(idle)}.")
    sample_generator = load_generator(args.model or default_model(), args.device)
    missing = tasks
    if not args.overwrite:
        wanted = args.format, args.pictures
        missing = missing_tasks(tasks, args.out, sample_generator.model_hash, seed_is_free, *wanted)
    if len(missing) < len(tasks):
        print(f"{len(tasks) - len(missing)} of {len(tasks)} are in {args.out} already.")
    checked = [Task(task.name, _checked(sample_generator, task)) for task in missing]
    total = sum(task.request.duration for task in checked)
    with progress_bar(total) as bar:
        samples = sample_generator.generate(
            [task.request for task in checked], args.batch_size, lambda done: _show(bar, done)
        )
        try:
            for task, sample in zip(checked, samples):
                path = write_sample(args.out, task.name, sample, args.format, args.pictures)
                bar.write(f"{path}  (seed {sample.recipe.request.seed})")
        except KeyboardInterrupt:
            bar.close()
            print("Stopped. What is finished is kept; the same command goes on.")
            return 130
    return 0


def tasks_of(args: argparse.Namespace, seed: int) -> list[Task]:
    """What the command line asks for."""
    given = {name: getattr(args, name) for name in HELP if getattr(args, name) is not None}
    if args.prompts is not None:
        return list(read_prompts(args.prompts, given, args.count, seed))
    return list(expand_variations(Request(**given, seed=seed), args.count, 1))


def reproduce_sample(args: argparse.Namespace) -> int:
    """Make the piece of a recipe again, and say whether it is the same.

    Raises:
        AudioError: The clip is not where the recipe says.
    """
    _refuse_changes(args)
    recipe = Recipe.load(args.from_recipe)
    if args.style is not None:  # the clip has moved
        recipe = dataclasses.replace(
            recipe, request=dataclasses.replace(recipe.request, style=args.style)
        )
    torch.set_num_threads(int(recipe.machine.get("threads", torch.get_num_threads())))
    device = args.device or recipe.machine.get("device")
    sample_generator = load_generator(args.model or recipe.model, device)
    with progress_bar(recipe.request.duration * recipe.batch_size) as bar:
        try:
            sample = sample_generator.reproduce(recipe, lambda done: _show(bar, done))
        except AudioError as error:
            raise AudioError(f"{error} Where is the clip now? Say it with --style.") from error
    path = write_sample(args.out, args.from_recipe.stem, sample, args.format, args.pictures)
    if hash_waveform(sample.wav) == recipe.waveform_sha256:
        print(f"{path}: the same music, bit for bit.")
        return 0
    print(
        f"{path}: not the same bits. It was made on {recipe.machine}, this is "
        f"{sample.recipe.machine}."
    )
    return 1


def load_generator(name: str, device: str | None) -> SampleGenerator:
    """Load a model by name, and say which."""
    print(f"Loading {name} …", flush=True)
    return SampleGenerator(MusicGen.get_pretrained(name, device=device))


@contextmanager
def progress_bar(seconds: float) -> tp.Iterator[tqdm]:
    """How much of so many seconds of music is there, and how long the rest takes.

    What is logged meanwhile stands above the bar.
    """
    form = "{percentage:3.0f}% of {total} s of music |{bar:30}| {elapsed}, {remaining} left"
    total = round(seconds, 2)
    with tqdm(total=total, bar_format=form, disable=not total) as bar, logging_redirect_tqdm():
        yield bar


def _checked(sample_generator: SampleGenerator, task: Task) -> Request:
    try:
        return sample_generator.check(task.request)
    except AudiocraftError as error:
        raise type(error)(f"{task.name}: {error}") from error


def _refuse_changes(args: argparse.Namespace) -> None:
    """See that nothing is asked for that a recipe decides."""
    parser = get_parser()
    asked = [name for name, value in vars(args).items() if value != parser.get_default(name)]
    refused = [name for name in asked if name not in (*REPRODUCE_OPTIONS, "from_recipe")]
    if refused:
        raise ConfigError(
            f"--from-recipe makes the piece as it was: it takes no {_as_options(refused)}, only "
            f"{_as_options(REPRODUCE_OPTIONS)}."
        )


def _as_options(names: tp.Iterable[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def _show(bar: tqdm, done: float) -> None:
    bar.n = min(done, bar.total)
    bar.update(0)
