"""The folder that pieces are written to: what is there already, and what is still to be made."""

import dataclasses
import json
import typing as tp
from pathlib import Path

from ..data.io.encoders import FORMATS
from ..errors import ConfigError
from .prompts import Task
from .recipe import Recipe
from .request import Request


def missing_tasks(
    tasks: tp.Sequence[Task],
    folder: Path,
    model_hash: str,
    seed_is_free: bool,
    format: str = "wav",
    pictures: bool = False,
) -> list[Task]:
    """The tasks whose pieces are not in the folder yet, in this format and with these pictures.

    What lacks only one of its files is made again as it was: of the same seed.

    Args:
        tasks: All of them.
        folder: Where they are written.
        model_hash: Of the model that makes them.
        any_seed: No seed was asked for: whatever is there will do.
        format: Of the audio. Files in another one are left alone, but do not count.
        pictures: Each piece shall have a picture.

    Raises:
        ConfigError: Two tasks have the same name, or the folder holds a piece that was made of
            something else.
    """
    names = [task.name for task in tasks]
    twice = sorted({name for name in names if names.count(name) > 1}) if names else []
    if twice:
        raise ConfigError(f"Two pieces would be called {twice[0]}. Give each prompt its own name.")
    missing = []
    for task in tasks:
        file = folder / f"{task.name}.json"
        if not file.exists():
            missing.append(task)
            continue
        recipe = Recipe.load(file)
        difference = _difference(recipe, task.request, model_hash, seed_is_free)
        if difference:
            raise ConfigError(
                f"{file} is of another piece: {difference}. Choose another folder with --out, or "
                "make it anew with --overwrite."
            )
        files = [f"{task.name}{FORMATS[format].suffix}"] + [f"{task.name}.png"] * pictures
        if recipe.audio != files[0] or not all((folder / name).exists() for name in files):
            missing.append(Task(task.name, recipe.request))
    return missing


def _difference(
    recipe: Recipe, request: Request, model_hash: str, seed_is_free: bool
) -> str | None:
    """What differs between what was made and what is asked for; `None` if nothing does."""
    if recipe.model_hash != model_hash:
        return f"it was made with {recipe.model} ({recipe.model_hash}, not {model_hash})"
    for field in dataclasses.fields(Request):
        made, wanted = getattr(recipe.request, field.name), getattr(request, field.name)
        if field.name == "excerpt_start" and request.excerpt_start is None:
            continue  # follows from the seed
        if field.name == "seed" and seed_is_free:
            continue
        if made != wanted:
            return f"its {field.name} is {json.dumps(made)}, not {json.dumps(wanted)}"
    return None
