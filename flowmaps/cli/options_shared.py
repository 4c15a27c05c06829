"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Common:
    debug: bool = False
    """Show the whole traceback of an error."""


@dataclass(frozen=True, kw_only=True)
class Learning(Common):
    """How a network is trained, whatever it is."""

    batch_size: int = 256
    """Rows of one training step."""
    lr: float = 1e-3
    """Largest learning rate; it warms up, then falls linearly to 1% of this."""
    ema: float = 0.999
    """Decay of the averaged weights, which are the ones to sample with."""
    clip: float | None = None
    """Largest norm of the gradient. None: no clipping."""
    seed: int = 0
    """Fixes the initial weights, the batches and all random numbers."""
    precision: Literal["no", "bf16"] = "no"
    """bf16: run the loss in bfloat16 where that is safe."""
    compile: bool = False
    """Compile the loss: slow to start, faster steps."""
    progress_bar: bool = True
    """Show loss, speed and time left."""


@dataclass(frozen=True, kw_only=True)
class Keeping(Common):
    """What one run keeps along the way, and on how many processes it is."""

    resume: bool = False
    """Go on with the run in this folder, given the same options: the same numbers as if it had never stopped."""
    checkpoint_every: int = 1000
    """Steps between checkpoints. There is always one at the end, and after Ctrl-C."""
    keep: int = 3
    """How many checkpoints are kept."""
    sample_every: int = 1000
    """Steps between pictures of samples. 0: none."""
    log_every: int = 50
    """Steps between rows of metrics.jsonl."""
    accumulate: int = 1
    """Parts in which a process takes its rows of a step, one after another, to save memory."""
    shard: bool = False
    """Spread weights, gradients, averages and the optimizers' memory over the processes that `torchrun` started."""
    trackers: tuple[str, ...] = ("tensorboard",)
    """Experiment trackers, by the names that accelerate knows: tensorboard, wandb, ..."""
