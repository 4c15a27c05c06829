"""Rewards of a run from words: label:7, with the classifier of the run or of a file; or a function of your own."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..arguments import did_you_mean, expect_path
from ..data import Data
from ..data.class_names import listed
from ..evaluate.features import Classifier, is_classified, load_classifier
from ..runs.folder import read_config
from ..steering import rewards
from ..steering.reward import Rewards, expect_reward
from ..units import Units
from .evaluation import CLASSIFIER, run_classifier
from .run_data import run_data
from .run_folder import EVALUATIONS, lock
from .text_conditioning import has_latents, pipeline_of
from .trained_run import Say, silent, units_of_model

LABEL = "label:"
"""Start of the text of a reward of a class."""


def reward_of(
    reward: str | Rewards,
    run: str | Path,
    *,
    classifier: str | PathLike[str] | None = None,
    data: Data | None = None,
    device: str | torch.device = "cpu",
    say: Say = silent,
) -> Rewards:
    """The reward of the samples of a run.

    Args:
        reward: "label:7" or "label:NAME", the log-probability of a class by a classifier; or a function of data in
            their units, of images that are decoded from latents for a run with a VAE.
        run: The run folder.
        classifier: File of a classifier, `flowmaps.evaluate.save_classifier`, such as classifier.safetensors of a run.
            None: the classifier of the run, which is trained on the labels of its data if it is missing, and kept.
        data: The data of the run, if they are loaded already.
        device: The device on which the reward is computed.
        say: Receives a line before a classifier is trained.

    Returns:
        The reward of samples in the units of the data, or of latents.

    Raises:
        BlockingIOError: A classifier must be trained, and another process evaluates the run.
        FileNotFoundError: There is no such run or file.
        TypeError: The reward is neither a text nor a function.
        ValueError: The text is no reward, the class is unknown, the data have no labels, or the classifier takes rows
            of another shape.
    """
    run, config = Path(run), read_config(run)
    if not isinstance(reward, str):
        expect_reward(reward)
        if classifier is not None:
            raise ValueError("`classifier` is for the reward of a class, such as label:7, and not for a function")
        return _of_images(reward, config, device)
    word = _word(reward)
    found = _given(classifier) if classifier is not None else _own(run, config, data, say)
    y = class_of(word, config["data"], found.classes)
    return _label(found.to(device), y, run, config, device, given=classifier is not None)


def class_of(word: str, about: Mapping[str, Any], classes: int) -> int:
    """The number of a class. Warns where another class has this number as its name.

    Args:
        word: Its number, as of `label` elsewhere, or its name.
        about: The entry "data" of config.json.
        classes: The number of classes of the classifier.

    Returns:
        The number.

    Raises:
        ValueError: There is no such class.
    """
    names = list(about.get("class_names") or ()) if about["classes"] == classes else []
    if not re.fullmatch("-?[0-9]{1,9}", word):
        if word not in names:
            known = f"; the classes are {listed(names)}" if names else f"; classes are numbers, 0 to {classes - 1}"
            raise ValueError(f"there is no class {word!r}{did_you_mean(word, names)}{known}")
        return names.index(word)
    y = int(word)
    if not 0 <= y < classes:
        raise ValueError(f"the classifier knows the classes 0 to {classes - 1}, and the reward is {LABEL}{word}")
    if word in names and names[y] != word:
        warnings.warn(
            f"{LABEL}{word} is the class of number {y}, whose name is {names[y]}; the class with the name {word} has "
            f"the number {names.index(word)}",
            stacklevel=4,
        )
    return y


def _word(text: str) -> str:
    """The class in the text of a reward."""
    if not text.startswith(LABEL) or not text.removeprefix(LABEL).strip():
        raise ValueError(
            f"a reward is {LABEL}7, a class by its number or name, or a function of your own (at the command line "
            f"MODULE:NAME, in Python the function itself), got {text!r}"
        )
    return text.removeprefix(LABEL).strip()


def _given(path: Any) -> Classifier:
    """The classifier of a file that a person names."""
    expect_path("classifier", path)
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"there is no file {path} with a classifier: give a file of fm.evaluate.save_classifier, such as the "
            f"{CLASSIFIER} of a run folder, or leave the classifier out"
        )
    try:
        return load_classifier(path)
    except ValueError:  # its advice is for the file of a run
        raise ValueError(
            f"{path} holds no classifier of flowmaps, or a damaged one: give a file of fm.evaluate.save_classifier, "
            f"such as the {CLASSIFIER} of a run folder, or leave the classifier out"
        ) from None


def _own(run: Path, config: Mapping[str, Any], data: Data | None, say: Say) -> Classifier:
    """The classifier in the run folder, trained now if it is missing."""
    if (run / CLASSIFIER).is_file():
        found = load_classifier(run / CLASSIFIER)
        if found.classes < 2:
            raise ValueError(_without_labels(**config["data"]))
        return found
    data = run_data(run) if data is None else data
    if not is_classified(data):
        raise ValueError(_without_labels(data.name, data.kind, data.shape, data.classes))
    say(f"Training a classifier on the labels of {data.name}, kept in {run / CLASSIFIER}")
    with lock(run, "training a classifier", EVALUATIONS, CLASSIFIER):
        return run_classifier(run, data)


def _without_labels(name: str, kind: str, shape: Sequence[int], classes: int | None, **_: Any) -> str:
    """The message for data that a classifier cannot learn."""
    return (
        "the reward of a class needs images, or vectors (D,), with labels of several classes to train a classifier, "
        f"and {name} holds {kind} of shape {tuple(shape)}{'' if classes else ' without labels'}: give the file of a "
        "classifier, `classifier`"
    )


def _label(
    classifier: Classifier, y: int, run: Path, config: Mapping[str, Any], device: str | torch.device, given: bool
) -> Rewards:
    """The reward of a class for the samples of a run, which may be latents or rows in units."""
    shape, units = tuple(config["data"]["shape"]), units_of_model(run)
    own = rewards.label(classifier if units is None else Standardised(classifier, units), y)
    if classifier.shape == shape:
        return own
    if given and has_latents(config) and len(classifier.shape) == 3:
        return _of_images(own, config, device)
    raise ValueError(f"the classifier takes rows of shape {classifier.shape}, and samples of {run} have {shape}")


def _of_images(reward: Rewards, config: Mapping[str, Any], device: str | torch.device) -> Rewards:
    """The reward of the images of latents; itself for a run of other samples."""
    return rewards.decoded(decoder(config, device), reward) if has_latents(config) else reward


def decoder(config: Mapping[str, Any], device: str | torch.device) -> Callable[[Tensor], Tensor]:
    """The differentiable decoder of the latents of a run, by the VAE of its pipeline."""
    from ..integrations.diffusers import Latents

    return Latents(pipeline_of(config)).to(device).decode


class Standardised:
    """A classifier of standardised rows as one of rows in their units; its attributes are the classifier's.

    Args:
        classifier: The classifier.
        units: The units.
    """

    def __init__(self, classifier: Classifier, units: Units) -> None:
        self.classifier, self.units, self.shape = classifier, units, classifier.shape

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (B, classes)."""
        return self.classifier(self.units.standardised(x))
