"""Checks of the arguments of experiments, before anything is loaded, trained or written."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, get_args

from ..arguments import at_least, did_you_mean, expect_path, given, positive, shown, truth, within
from ..training.config import TrainConfig
from .build import NetworkName, OutputName


def folder_of(run: Any, name: str = "run") -> Path:
    """The folder of a run, given as a path or as a `TrainedRun`.

    Args:
        run: The run.
        name: Name of the argument, for the message.

    Returns:
        The path.

    Raises:
        TypeError: It is neither.
        ValueError: It is an empty text.
    """
    expect_path(name, run)
    return Path(run)


def check_networks(
    *, network: Any = "auto", output: Any = "auto", width: Any = None, depth: Any = None, labels: Any = True
) -> None:
    """Check the choice of a network.

    Args:
        network: Name of a network, or "auto".
        output: Name of an output, or "auto".
        width: Its width.
        depth: Its depth.
        labels: Whether it takes labels.

    Raises:
        TypeError: A size is no whole number, or `labels` is neither True nor False.
        ValueError: A name is unknown, or a size is below 1.
    """
    for name, value, hint in (("network", network, NetworkName), ("output", output, OutputName)):
        known = get_args(hint)
        if value not in known:
            near = did_you_mean(value, known) if isinstance(value, str) else ""
            raise ValueError(f"`{name}` must be {', '.join(known[:-1])} or {known[-1]}, got {shown(value)}{near}")
    at_least(1, **given(width=width, depth=depth))
    truth(labels=labels)


def check_classes(classes: Any) -> None:
    """Check the classes of a pretrained model.

    Args:
        classes: Their number, a file with their names, or their names; None.

    Raises:
        TypeError: It is something else.
        ValueError: The number is below 1, or there are no names.
    """
    if classes is None or isinstance(classes, str | PathLike):
        return
    if isinstance(classes, list | tuple) and all(isinstance(name, str) for name in classes):
        if not classes:
            raise ValueError("`classes` must have at least one name, got none")
        return
    if isinstance(classes, list | tuple):
        raise TypeError(f"`classes` must be a number, a list of names or a file of names, got {shown(classes)}")
    at_least(1, classes=classes)


def check_settings_of_training(settings: Mapping[str, Any], steps: Any, seconds: Any, out: Any = None) -> None:
    """Check the settings of a training run, as `TrainConfig` does.

    Args:
        settings: Keyword arguments of `flowmaps.train`.
        steps: Training steps. None: the default.
        seconds: Training time. None: not given.
        out: The run folder.

    Raises:
        TypeError: A value is of another type.
        ValueError: A value is out of range.
    """
    if out is not None:
        expect_path("out", out)
    at_least(1, **given(steps=steps))
    positive(**given(seconds=seconds))
    TrainConfig(**{name: value for name, value in settings.items() if name != "resume"}, steps=1)


def check_by_name(**arguments: Any) -> None:
    """Raise TypeError for an argument that is neither None nor a mapping from names to values."""
    for name, value in arguments.items():
        if value is not None and not isinstance(value, Mapping):
            raise TypeError(f"`{name}` must be values by name, such as {{'n': 100}}, got {shown(value)}")


def refuse_tokens(config: Mapping[str, Any], what: str) -> None:
    """Refuse a run on tokens.

    Args:
        config: The content of its config.json.
        what: The subject and verb of the message, such as "a log-density is".

    Raises:
        ValueError: The rows are tokens.
    """
    if config["data"]["kind"] == "tokens":
        raise ValueError(
            f"{what} of images, points and vectors, and the rows of this run are tokens, {config['data']['name']}"
        )


def check_share(**arguments: Any) -> None:
    """Check optional shares: None, or a number in [0, 1]."""
    within(0, 1, **given(**arguments))
