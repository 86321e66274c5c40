"""`audiocraft generate`: audio files, each with the recipe that reproduces it."""

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
from ..inference.output_folder import make_writable_folder, missing_tasks
from ..inference.prompts import Task, expand_variations, read_prompts
from ..inference.recipe import Recipe
from ..inference.request import Request
from ..inference.sample_generator import Sample, SampleGenerator, hash_waveform, write_sample
from ..inference.style_clip import excerpt_start
from ..models.musicgen import MusicGen
from .output import print_line
from .parser import CommandParser

BUNDLED = "//bundled/musicgen_style_tiny"
RELEASED = "facebook/musicgen-style"
MODEL_HELP = (
    f"hub id, //sig/SIG, //bundled/NAME or a folder [default: {RELEASED} on a GPU, else {BUNDLED}]"
)
DEFAULT_FOLDER = Path("generated")
HELP = {  # fields of `Request`
    "text": "description of the music",
    "style": "audio file whose style the music follows",
    "duration": "seconds",
    "guidance": "how strictly text and style are followed; 1 is off (cfg_coef)",
    "text_weight": "with text and style: higher follows the TEXT more, 1 to 9 (cfg_coef_beta)",
    "style_detail": "how closely the style clip is followed: 1 is loose, 6 is close (eval_q)",
    "excerpt_length": "seconds of the style clip that are used, 1.5 to 4.5",
    "excerpt_start": "second of the style clip at which they start [default: from the seed]",
    "temperature": "lower is less random; 0 always takes the most likely token",
    "top_k": "sample from the k most likely tokens; 0 is off",
    "top_p": "sample from the most likely tokens of this total probability; 0 is off",
    "extend_stride": "beyond the model's window: seconds that each further window adds",
}
INTEGERS = ("style_detail", "top_k")
TEXTS = ("text", "style")
STYLE_OPTIONS = ("text_weight", "style_detail", "excerpt_length", "excerpt_start")
REPRODUCE_OPTIONS = ("style", "model", "device", "out", "format", "pictures", "output")
DEFAULTS = {field.name: field.default for field in dataclasses.fields(Request)}


class Destination(tp.NamedTuple):
    """Where samples are written."""

    folder: Path
    stem: str | None  # of the only sample; None names samples by their prompts
    format: str
    pictures: bool
    overwrite: bool

    def write(self, name: str, sample: Sample) -> Path:
        """Write a sample; return the path of its audio.

        Raises:
            AudiocraftError: The disk does not accept it.
        """
        try:
            return write_sample(self.folder, name, sample, self.format, self.pictures)
        except OSError as error:
            raise AudiocraftError(
                f"{error.filename or self.folder} cannot be written: {error.strerror or error}. "
                "Finished samples are kept; the same command resumes."
            ) from error


def default_model() -> str:
    """Return the released model if there is a GPU, else the bundled one."""
    return RELEASED if torch.cuda.is_available() else BUNDLED


def get_parser() -> CommandParser:
    """Return the parser of the command."""
    parser = CommandParser("generate", main.__doc__)
    request = parser.add_argument_group("request")
    for name, text in HELP.items():
        default = "" if DEFAULTS[name] is None else f" [default: {DEFAULTS[name]:g}]"
        type_ = str if name in TEXTS else int if name in INTEGERS else float
        request.add_argument(f"--{name.replace('_', '-')}", type=type_, help=text + default)
    request.add_argument(
        "--prompts", type=Path, help="table (CSV, JSON lines) with any of the above as columns"
    )
    request.add_argument("--count", type=int, default=1, help="variations of each prompt")
    request.add_argument("--seed", type=int, help="of the first sample, incremented for the others")
    request.add_argument(
        "--from-recipe", type=Path, help="reproduce the sample of this JSON bit for bit"
    )
    run = parser.add_argument_group("model and output")
    run.add_argument("--model", help=MODEL_HELP)
    run.add_argument("--device", help="cuda, mps or cpu [default: the fastest available]")
    run.add_argument("--batch-size", type=int, default=4, help="samples generated at once")
    run.add_argument("--out", type=Path, default=DEFAULT_FOLDER, help="output folder")
    run.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="output file, for a single sample"
    )
    run.add_argument(
        "--format", choices=sorted(FORMATS), help="of the audio [default: that of FILE, or wav]"
    )
    run.add_argument("--pictures", action="store_true", help="also plot each sample")
    run.add_argument("--overwrite", action="store_true", help="replace existing samples")
    return parser


def main(argv: tp.Sequence[str]) -> int:
    """Generate music from text, from a style clip, or from both.

    Each sample is written with a recipe. The same command resumes where it was stopped.
    """
    args = get_parser().parse_args(argv)
    if args.batch_size < 1 or args.count < 1:
        raise ConfigError("--batch-size and --count must be at least 1.")
    return reproduce_sample(args) if args.from_recipe else generate(args)


def generate(args: argparse.Namespace) -> int:
    """Generate all requested samples that the output folder lacks."""
    seed_is_free = args.seed is None
    seed = torch.seed() % 2**31 if seed_is_free else args.seed
    destination = get_destination(args)
    tasks = get_tasks(args, seed, destination.stem)
    _warn_unused_style_options(args, tasks)
    for task in tasks:
        _check_clip(task)
    make_writable_folder(destination.folder)
    generator = load_generator(args.model or default_model(), args.device)
    folder, format, pictures = destination.folder, destination.format, destination.pictures
    missing = tasks
    if not args.overwrite:
        model_hash = generator.model_hash
        missing = missing_tasks(tasks, folder, model_hash, seed_is_free, format, pictures)
    if len(missing) < len(tasks):
        existing = len(tasks) - len(missing)
        print_line(f"{existing} of {len(tasks)} are in {folder} already.")
    checked = [Task(task.name, _checked(generator, task)) for task in missing]
    requests = [task.request for task in checked]
    with progress_bar(sum(request.duration for request in requests)) as bar:
        samples = generator.generate(requests, args.batch_size, lambda done: _update(bar, done))
        try:
            for task, sample in zip(checked, samples):
                path = destination.write(task.name, sample)
                print_line(f"{path}  (seed {sample.recipe.request.seed})")
        except KeyboardInterrupt:
            bar.close()
            print_line("Stopped. Finished samples are kept; the same command resumes.")
            return 130
    return 0


def get_destination(args: argparse.Namespace) -> Destination:
    """Return where the options `--out`, `--output` and `--format` place the samples.

    Raises:
        ConfigError: They contradict each other, or there is something else in their place.
    """
    format = args.format or "wav"
    if args.output is None:
        if args.out.exists() and not args.out.is_dir():
            raise ConfigError(f"--out {args.out} is a file, not a folder. Use --output for a file.")
        return Destination(args.out, None, format, args.pictures, args.overwrite)
    if args.out != DEFAULT_FOLDER:
        raise ConfigError(f"--out {args.out} and --output {args.output} exclude each other.")
    if args.prompts is not None or args.count > 1:
        raise ConfigError("--output is the file of a single sample. Use --out FOLDER for several.")
    if args.output.is_dir():
        raise ConfigError(
            f"--output {args.output} is a folder, not a file. Use --out for a folder."
        )
    suffixes = {form.suffix: name for name, form in FORMATS.items()}
    suffix = args.output.suffix.lower()
    if suffix not in suffixes or args.format not in (None, suffixes[suffix]):
        wanted = FORMATS[args.format].suffix if args.format else ", ".join(suffixes)
        raise ConfigError(f"--output {args.output} must end in one of: {wanted}.")
    stem = args.output.name[: -len(suffix)]
    if not args.overwrite and args.output.exists() and not _recipe_path(args.output).exists():
        raise ConfigError(f"--output {args.output} exists. Remove it or choose another file.")
    return Destination(args.output.parent, stem, suffixes[suffix], args.pictures, args.overwrite)


def _recipe_path(audio: Path) -> Path:
    return audio.with_suffix(".json")


def get_tasks(args: argparse.Namespace, seed: int, stem: str | None = None) -> list[Task]:
    """Return the tasks that the command line describes.

    Args:
        args: The options.
        seed: Seed of the first sample.
        stem: Name of the only sample; `None` derives names from the prompts.
    """
    given = {name: getattr(args, name) for name in HELP if getattr(args, name) is not None}
    if args.prompts is not None:
        return list(read_prompts(args.prompts, given, args.count, seed))
    tasks = list(expand_variations(Request(**given, seed=seed), args.count, 1))
    return tasks if stem is None else [Task(stem, tasks[0].request)]


def reproduce_sample(args: argparse.Namespace) -> int:
    """Reproduce the sample of a recipe, and report whether it is identical.

    Raises:
        AudioError: The style clip is not where the recipe states.
    """
    _refuse_other_options(args)
    destination = get_destination(args)
    recipe = Recipe.load(args.from_recipe)
    if args.style is not None:  # the clip was moved
        recipe = dataclasses.replace(
            recipe, request=dataclasses.replace(recipe.request, style=args.style)
        )
    make_writable_folder(destination.folder)
    torch.set_num_threads(int(recipe.machine.get("threads", torch.get_num_threads())))
    device = args.device or recipe.machine.get("device")
    generator = load_generator(args.model or recipe.model, device)
    with progress_bar(recipe.request.duration * recipe.batch_size) as bar:
        try:
            sample = generator.reproduce(recipe, lambda done: _update(bar, done))
        except AudioError as error:
            raise AudioError(f"{error} If the clip was moved, name it with --style.") from error
    path = destination.write(destination.stem or args.from_recipe.stem, sample)
    if hash_waveform(sample.wav) == recipe.waveform_sha256:
        print_line(f"{path}: identical to the sample of the recipe, bit for bit.")
        return 0
    print_line(
        f"{path}: not identical to the sample of the recipe, which was generated on "
        f"{recipe.machine}; this machine is {sample.recipe.machine}."
    )
    return 1


def load_generator(name: str, device: str | None) -> SampleGenerator:
    """Load a model by name."""
    print_line(f"Loading {name} …")
    return SampleGenerator(MusicGen.get_pretrained(name, device=device))


@contextmanager
def progress_bar(seconds: float) -> tp.Iterator[tqdm]:
    """Show a progress bar in seconds of audio; log messages appear above it."""
    form = "{percentage:3.0f}% of {total} s of music |{bar:30}| {elapsed}, {remaining} left"
    total = round(seconds, 2)
    with tqdm(total=total, bar_format=form, disable=not total) as bar, logging_redirect_tqdm():
        yield bar


def _update(bar: tqdm, done: float) -> None:
    bar.n = min(done, bar.total)
    bar.update(0)


def _check_clip(task: Task) -> None:
    """Check that the style clip can be read and is long enough, before the model is loaded."""
    request = task.request
    if request.style is not None:
        try:
            excerpt_start(
                request.style, request.excerpt_length, request.excerpt_start, request.seed
            )
        except AudioError as error:
            raise AudioError(f"{task.name}: {error}") from error


def _checked(generator: SampleGenerator, task: Task) -> Request:
    try:
        return generator.check(task.request)
    except AudiocraftError as error:
        raise type(error)(f"{task.name}: {error}") from error


def _warn_unused_style_options(args: argparse.Namespace, tasks: list[Task]) -> None:
    unused = [name for name in STYLE_OPTIONS if getattr(args, name) is not None]
    if unused and not any(task.request.style for task in tasks):
        print_line(f"Without --style these options have no effect: {_as_options(unused)}.")


def _refuse_other_options(args: argparse.Namespace) -> None:
    """Refuse options that the recipe determines."""
    parser = get_parser()
    given = [name for name, value in vars(args).items() if value != parser.get_default(name)]
    refused = [name for name in given if name not in (*REPRODUCE_OPTIONS, "from_recipe")]
    if refused:
        raise ConfigError(
            f"--from-recipe determines the sample; it takes no {_as_options(refused)}, only "
            f"{_as_options(REPRODUCE_OPTIONS)}."
        )


def _as_options(names: tp.Iterable[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)
