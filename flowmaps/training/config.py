"""The settings of a training run, each declared once.

They are keywords of `flowmaps.train` and options of `flowmaps train`; recipes set some of them. config.json and the
model card list the ones that determine the numbers. A new field appears in all of these.
"""

from __future__ import annotations

import ast
import inspect
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from textwrap import dedent, fill
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

import torch

from ..arguments import (
    at_least,
    check_seed,
    device_of,
    did_you_mean,
    expect_path,
    given,
    positive,
    shown,
    truth,
    within,
)
from ..flow_map import FlowMap
from ..method.method import Method
from ..runs.fingerprint import fingerprint
from ..velocity import MakeOptimizer
from .schedule import WarmUpDecay

P = ParamSpec("P")
R = TypeVar("R")
Precision = Literal["no", "bf16"]
"""Precision of the loss: the dtype of the weights, or bfloat16 by autocast."""


@dataclass(frozen=True, kw_only=True)
class LearningConfig:
    """Settings of the optimization, shared by `flowmaps train`, `compare` and `distill`."""

    batch_size: int = 256
    """Rows of one training step, over all processes."""
    lr: float = 1e-3
    """Largest learning rate; by default it warms up, then falls linearly to 1% of this."""
    ema: float = 0.999
    """Decay of the averaged weights, which are used for sampling: min(ema, (1 + k)/(10 + k)) at the k-th step."""
    clip: float | None = None
    """Largest gradient norm, for each optimizer separately. None: no clipping."""
    seed: int = 0
    """Seed of the batches and all random numbers, which do not depend on the number of processes and parts; on the
    command line also of the initial weights."""
    precision: Precision = "no"
    """bf16: run the loss in bfloat16 where that is safe (autocast)."""
    compile: bool = False
    """Compile the loss (torch.compile): slow to start, faster steps. If that fails, training continues uncompiled, with
    a warning."""
    device: str | torch.device | None = None
    """Device to train on, such as cpu, cuda or cuda:1. None: a GPU if there is one. A resumed run may have another."""
    progress_bar: bool = True
    """Show loss, speed and time left."""


@dataclass(frozen=True, kw_only=True)
class KeepingConfig:
    """Settings of the run folder and of the processes, shared by `flowmaps train` and `distill`."""

    resume: bool = False
    """Continue the run in this folder with the same settings; the numbers are the same as without an interruption."""
    fingerprint: Literal["samples", "whole", "off"] = "samples"
    """How a resumed run finds that data or teachers have changed. samples: by sizes, all labels and samples of rows and
    weights. whole: by every byte too, which takes time for large data. off: only settings are compared."""
    checkpoint_every: int = 1000
    """Steps between checkpoints. There is always one at the end, and after Ctrl-C."""
    keep: int = 3
    """Number of checkpoints to keep."""
    sample_every: int = 1000
    """Steps between pictures of samples. 0: none."""
    log_every: int = 50
    """Steps between rows of metrics.jsonl and of the trackers."""
    accumulate: int = 1
    """Number of parts in which each process computes its rows of a step, one after another, to save memory."""
    shard: bool = False
    """Shard weights, gradients, averages and optimizer states over the processes (FSDP2) started by `torchrun` or
    `accelerate launch`, instead of a copy in each."""
    timeout: float = 1800.0
    """Seconds that processes wait for one another. If one does not answer for so long, the others stop with an error.
    """
    trackers: Sequence[str] = ("tensorboard",)
    """Experiment trackers, by their names in accelerate: tensorboard, wandb, ..."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(LearningConfig, KeepingConfig):
    """All settings of `flowmaps.train`, its keyword arguments.

    Raises:
        TypeError: If a value is of another type.
        ValueError: If a value is invalid.
    """

    steps: int | None = None
    """Length of training in steps; give either this or `seconds`."""
    seconds: float | None = None
    """Length of training in seconds spent on steps. Such a run is not reproducible."""
    clock: Literal["processor"] | None = None
    """Clock of `seconds`. "processor": the processor time of this process, the sum over its threads, without the work
    of a GPU; other load of the machine changes it less. None: the time that passes."""
    optimizer: MakeOptimizer | None = None
    """Function from weights to an optimizer, with its own learning rates. None: AdamW with betas (0.9, 0.95), no weight
    decay and rate `lr`. Each auxiliary network (`method.auxiliaries`) gets a separate optimizer: the one it declares,
    or one made by this function."""
    schedule: Callable[[float], float] = WarmUpDecay()
    """Factor of the learning rate as a function of progress in [0, 1]. By default warm-up, then linear decay; see
    `training.constant`."""
    labels: bool | None = None
    """Pass class labels to the network as `label=`. None: if it takes them."""
    out: str | Path | None = None
    """The run folder. None: nothing is written."""
    notes: Mapping[str, Any] | None = None
    """Additional entries of config.json."""
    accelerator: Any = None
    """Your own `accelerate.Accelerator`, with its trackers. With several processes and stages it needs
    find_unused_parameters. None: one is created."""

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.seconds is None):
            raise ValueError(
                f"training needs a length: either steps= or seconds=, got steps={self.steps}, seconds={self.seconds}"
            )
        at_least(1, **given(steps=self.steps))
        at_least(1, **self._own("batch_size", "checkpoint_every", "keep", "log_every", "accumulate"))
        at_least(0, sample_every=self.sample_every)
        positive(lr=self.lr, **given(seconds=self.seconds, clip=self.clip, timeout=self.timeout))
        check_seed(self.seed)
        within(0, 1, ema=self.ema)
        if self.ema == 1:
            raise ValueError("ema must be below 1, got 1: the averaged weights would never move")
        if self.device is not None:
            device_of(self.device)
        if self.fingerprint not in ("samples", "whole", "off"):
            raise ValueError(f'fingerprint must be "samples", "whole" or "off", got {self.fingerprint!r}')
        if self.precision not in ("no", "bf16"):
            raise ValueError(f'precision must be "no" or "bf16", got {self.precision!r}')
        truth(**self._own("compile", "progress_bar", "resume", "shard"), **given(labels=self.labels))
        if self.clock not in (None, "processor"):
            raise ValueError(f'clock must be "processor" or None, got {shown(self.clock)}')
        if self.optimizer is not None and not callable(self.optimizer):
            raise TypeError(f"optimizer must be a function that makes one from weights, got {shown(self.optimizer)}")
        if not callable(self.schedule) or isinstance(self.schedule, type):
            raise TypeError(f"schedule must be a function of the progress, got {shown(self.schedule)}")
        if isinstance(self.trackers, str) or not isinstance(self.trackers, Sequence):
            raise TypeError(f'trackers must be a list of names, such as ["tensorboard"], got {shown(self.trackers)}')
        if self.notes is not None and not isinstance(self.notes, Mapping):
            raise TypeError(f"notes must be entries by name, got {shown(self.notes)}")
        if self.out is not None:
            expect_path("out", self.out)

    def _own(self, *settings: str) -> dict[str, Any]:
        """Settings by name."""
        return {name: getattr(self, name) for name in settings}

    def deciding(self) -> dict[str, Any]:
        """Return the settings that determine the numbers of a run, as JSON; a resumed run must have the same."""
        return {name: fingerprint(getattr(self, name)) for name in DECIDING}

    def progress(self, step: int, seconds: float) -> float:
        """Compute the share of training that is done, in [0, 1].

        Args:
            step: Number of steps taken.
            seconds: Time spent on them.

        Returns:
            The share.
        """
        done = step / self.steps if self.steps is not None else seconds / (self.seconds or math.inf)
        return min(done, 1.0)


def clock_of(name: str | None) -> Callable[[], float]:
    """Return the clock of a training run, by the setting `clock`; it gives seconds."""
    return time.process_time if name == "processor" else time.perf_counter


OTHER_WORDS = {
    "accumulate_grad_batches": "accumulate", "amp": "precision", "bf16": "precision", "ema_decay": "ema",
    "epochs": "steps", "fp16": "precision", "grad_clip": "clip", "gradient_accumulation_steps": "accumulate",
    "gradient_clip_val": "clip", "iterations": "steps", "learning_rate": "lr", "log_with": "trackers",
    "max_epochs": "steps", "max_grad_norm": "clip", "max_steps": "steps", "mixed_precision": "precision",
    "num_epochs": "steps", "num_steps": "steps", "num_train_epochs": "steps", "output_dir": "out",
    "random_state": "seed", "save_every": "checkpoint_every", "save_steps": "checkpoint_every",
    "train_batch_size": "batch_size",
}  # fmt: skip
"""Names of settings in other libraries, with the names here."""


def check_names(function: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Refuse unknown keyword arguments.

    Args:
        function: Name of the function in the message.
        given: Names of the arguments.
        known: Names that it takes.

    Raises:
        TypeError: One of them is unknown; the message has the name here, if there is one.
    """
    for word in given:
        if word in known:
            continue
        hint = did_you_mean(word, known)
        if OTHER_WORDS.get(word) in known:
            epoch = ", and an epoch has as many as the training rows over batch_size" if "epoch" in word else ""
            hint = f": here it is {OTHER_WORDS[word]}{epoch}"
        raise TypeError(f"{function}() got an unexpected keyword argument {word!r}{hint}")


def names(*configs: type) -> tuple[str, ...]:
    """Return the names of the settings that dataclasses declare, in their order."""
    return tuple(dict.fromkeys(field.name for config in configs for field in fields(config)))


SIDE = (*names(KeepingConfig), "device", "progress_bar", "out", "notes", "accelerator")
"""Settings that do not determine the numbers of a run, so that a resumed run may change them."""

DECIDING = tuple(name for name in names(TrainConfig) if name not in SIDE)
"""Settings that determine the numbers of a run."""


def among(settings: Any, known: Sequence[str] = names(TrainConfig)) -> dict[str, Any]:
    """Collect the training settings among the attributes of an object, such as options or a recipe.

    Args:
        settings: The object.
        known: Names of settings. By default all of `TrainConfig`.

    Returns:
        The settings of the object by name, as keyword arguments of `train`.
    """
    return {name: getattr(settings, name) for name in known if hasattr(settings, name)}


def help_of(config: type) -> dict[str, str]:
    """Read the text below each field of a dataclass, its own fields before the fields of its bases.

    Args:
        config: A dataclass.

    Returns:
        The text of each field by its name, on one line; empty texts if the source code is not available.
    """
    found: dict[str, str] = {}
    for base in config.__mro__[:-1]:
        try:
            body = ast.parse(dedent(inspect.getsource(base))).body[0]
        except OSError:  # a program without source files
            return dict.fromkeys(inspect.signature(config).parameters, "")
        assert isinstance(body, ast.ClassDef)
        for before, after in zip(body.body, body.body[1:], strict=False):
            if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name) and _is_text(after):
                found.setdefault(before.target.id, " ".join(str(after.value.value).split()))  # type: ignore[attr-defined]
    return found


def takes(
    config: Callable[P, Any],
) -> Callable[[Callable[..., R]], Callable[Concatenate[FlowMap, Method | str, Any, P], R]]:
    """Give a function the keyword arguments of a configuration, in its signature and docstring (decorator).

    Args:
        config: A dataclass such as `TrainConfig`, with a text below each field.

    Returns:
        A decorator for a function (flow, method, data, **settings). In its docstring the settings replace the line
        `**settings: ...` below `Args:`. The decorator returns the same function.
    """
    assert isinstance(config, type)

    def complete(function: Callable[..., R]) -> Callable[Concatenate[FlowMap, Method | str, Any, P], R]:
        own = list(inspect.signature(function).parameters.values())[:-1]
        texts, parameters = help_of(config), inspect.signature(config).parameters
        settings = [parameters[name] for name in texts]
        function.__signature__ = inspect.Signature([*own, *settings])  # type: ignore[attr-defined]
        lines = (
            fill(f"{setting.name}: {texts[setting.name]}", 120, initial_indent=" " * 8, subsequent_indent=" " * 12)
            for setting in settings
        )
        before, _, rest = (function.__doc__ or "").partition("        **settings:")
        function.__doc__ = before + "\n".join(lines) + "\n" + rest.partition("\n")[2]
        return function

    return complete


def _is_text(node: ast.stmt) -> bool:
    """Whether a statement is a string."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
