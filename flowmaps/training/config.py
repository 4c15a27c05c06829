"""The settings of a training run, each declared once.

`flowmaps.train` takes them as keywords, `flowmaps train` as options, a recipe brings some of them, and config.json and
the model card list those that decide the numbers. A new field here appears in all of them.
"""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from textwrap import dedent, fill
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

from ..flow_map import FlowMap
from ..method.method import Method
from ..runs.fingerprint import fingerprint
from ..velocity import MakeOptimizer
from .schedule import WarmUpDecay

P = ParamSpec("P")
R = TypeVar("R")
Precision = Literal["no", "bf16"]


@dataclass(frozen=True, kw_only=True)
class LearningConfig:
    """How a network learns, whatever it is: the same for `flowmaps train`, `compare` and `distill`."""

    batch_size: int = 256
    """Rows of one training step, over all processes."""
    lr: float = 1e-3
    """Largest learning rate; by default it warms up, then falls linearly to 1% of this."""
    ema: float = 0.999
    """Decay of the averaged weights, which are the ones to sample with: min(ema, (1 + k)/(10 + k)) at the k-th step."""
    clip: float | None = None
    """Largest norm of the gradient, of each optimizer's own weights. None: no clipping."""
    seed: int = 0
    """Fixes the batches and all random numbers, as a function of seed and step, whatever the number of processes and
    parts; on the command line also the initial weights."""
    precision: Precision = "no"
    """bf16: run the loss in bfloat16 where that is safe (autocast)."""
    compile: bool = False
    """Compile the loss (torch.compile): slow to start, faster steps. If it fails, a warning says so and training goes
    on without."""
    progress_bar: bool = True
    """Show loss, speed and time left."""


@dataclass(frozen=True, kw_only=True)
class KeepingConfig:
    """How one run is kept, and spread over processes: the same for `flowmaps train` and `distill`."""

    resume: bool = False
    """Go on with the run in this folder, given the same settings: the same numbers as if it had never stopped."""
    checkpoint_every: int = 1000
    """Steps between checkpoints. There is always one at the end, and after Ctrl-C."""
    keep: int = 3
    """Number of checkpoints that are kept."""
    sample_every: int = 1000
    """Steps between pictures of samples. 0: none."""
    log_every: int = 50
    """Steps between rows of metrics.jsonl and of the trackers."""
    accumulate: int = 1
    """Parts in which each process takes its rows of a step, one after another, to save memory."""
    shard: bool = False
    """Spread weights, gradients, averages and the optimizers' memory over the processes (FSDP2) that `torchrun` or
    `accelerate launch` started, instead of keeping them in each."""
    trackers: Sequence[str] = ("tensorboard",)
    """Experiment trackers, by the names that accelerate knows: tensorboard, wandb, ..."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(LearningConfig, KeepingConfig):
    """All settings of `flowmaps.train`, its keyword arguments.

    Raises:
        ValueError: For values that cannot be.
    """

    steps: int | None = None
    """Length of training in steps; either this or `seconds`."""
    seconds: float | None = None
    """Length of training in time spent on steps. Such a run does not give the same numbers twice."""
    optimizer: MakeOptimizer | None = None
    """A function from weights to an optimizer, with rates of its own. None: AdamW with betas (0.9, 0.95), no weight
    decay and rate `lr`. Networks beside the flow (`method.auxiliaries`) each get another one: the one that they ask
    for, or one made like this."""
    schedule: Callable[[float], float] = WarmUpDecay()
    """Factor of the learning rate, a function of progress in [0, 1]. By default warm-up, then linear decay; see
    `training.constant`."""
    labels: bool | None = None
    """Give the network class labels as `label=`. None: if it takes them."""
    out: str | Path | None = None
    """The run folder. None: nothing is written."""
    notes: Mapping[str, Any] | None = None
    """Anything to keep in config.json."""
    accelerator: Any = None
    """An accelerator of yours (`accelerate.Accelerator`), which brings its own trackers, and for several processes and
    stages needs find_unused_parameters. None: one is made."""

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.seconds is None):
            raise ValueError(
                f"training needs a length: either steps= or seconds=, got steps={self.steps}, seconds={self.seconds}"
            )
        for name in ("steps", "seconds", "batch_size", "lr", "clip"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be positive and finite, got {value}")
        for name in ("checkpoint_every", "keep", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.precision not in ("no", "bf16"):
            raise ValueError(f'precision must be "no" or "bf16", got {self.precision!r}')

    def deciding(self) -> dict[str, Any]:
        """The settings that decide the numbers of a run, as JSON for config.json; a resumed run must share them."""
        return {name: fingerprint(getattr(self, name)) for name in DECIDING}

    def progress(self, step: int, seconds: float) -> float:
        """The share of training that is done, in [0, 1].

        Args:
            step: Number of steps that were taken.
            seconds: Time that they took.
        """
        done = step / self.steps if self.steps is not None else seconds / (self.seconds or math.inf)
        return min(done, 1.0)


def names(*configs: type) -> tuple[str, ...]:
    """The names of the settings that these dataclasses declare, in their order."""
    return tuple(dict.fromkeys(field.name for config in configs for field in fields(config)))


SIDE = (*names(KeepingConfig), "progress_bar", "out", "notes", "accelerator")
"""Settings of a run that do not decide its numbers, so that a resumed run may change them."""

DECIDING = tuple(name for name in names(TrainConfig) if name not in SIDE)
"""Settings that decide the numbers of a run."""


def among(settings: Any, known: Sequence[str] = names(TrainConfig)) -> dict[str, Any]:
    """Collect training settings from an object that has some of them as attributes: options or a recipe.

    Args:
        settings: The object.
        known: Names of settings. By default all of `TrainConfig`.

    Returns:
        The settings that it has, by name: keyword arguments of `train`.
    """
    return {name: getattr(settings, name) for name in known if hasattr(settings, name)}


def help_of(config: type) -> dict[str, str]:
    """Read the text below each field of a dataclass: its own fields first, then the fields of its bases.

    Args:
        config: A dataclass.

    Returns:
        The text of each field, on one line, by its name; empty texts if there is no source to read.
    """
    found: dict[str, str] = {}
    for base in config.__mro__[:-1]:
        try:
            body = ast.parse(dedent(inspect.getsource(base))).body[0]
        except OSError:  # a program without its sources
            return dict.fromkeys(inspect.signature(config).parameters, "")
        assert isinstance(body, ast.ClassDef)
        for before, after in zip(body.body, body.body[1:], strict=False):
            if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name) and _is_text(after):
                found.setdefault(before.target.id, " ".join(str(after.value.value).split()))  # type: ignore[attr-defined]
    return found


def takes(config: Callable[P, Any]) -> Callable[[Callable[..., R]], Callable[Concatenate[FlowMap, Method, Any, P], R]]:
    """Give a function the keyword arguments of a configuration, in its signature and docstring (decorator).

    Args:
        config: A dataclass such as `TrainConfig`, with a text below each field.

    Returns:
        A decorator for a function (flow, method, data, **settings) whose docstring has a line `**settings: ...` in
        its `Args:`, which the settings replace. The function itself comes back, completed and typed.
    """
    assert isinstance(config, type)

    def complete(function: Callable[..., R]) -> Callable[Concatenate[FlowMap, Method, Any, P], R]:
        here = list(inspect.signature(function).parameters.values())[:-1]
        texts, parameters = help_of(config), inspect.signature(config).parameters
        settings = [parameters[name] for name in texts]
        function.__signature__ = inspect.Signature([*here, *settings])  # type: ignore[attr-defined]
        lines = (
            fill(f"{setting.name}: {texts[setting.name]}", 120, initial_indent=" " * 8, subsequent_indent=" " * 12)
            for setting in settings
        )
        before, _, rest = (function.__doc__ or "").partition("        **settings:")
        function.__doc__ = before + "\n".join(lines) + "\n" + rest.partition("\n")[2]
        return function

    return complete


def _is_text(node: ast.stmt) -> bool:
    """Whether a statement is a string alone."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
