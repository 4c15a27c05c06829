"""The options of `flowmaps posttrain`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from .options_shared import Keeping, Learning


@dataclass(frozen=True, kw_only=True)
class Posttrain(Keeping, Learning):
    """Move a trained run to the law p(x0) e^(r(x0)/beta) / Z of a reward r, in a new run folder; one jump is enough.

    Example: flowmaps posttrain runs/digits --reward label:7 --method tilting --out runs/sevens
    """

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """The run folder."""
    reward: str
    """label:7 or label:NAME, the log-probability of a class by a classifier. Or a function of your own, MODULE:NAME, of
    data (B, ...) in their units, which returns (B,)."""
    classifier: Path | None = None
    """File of the classifier, such as classifier.safetensors of a run. None: the classifier of the run, which is
    trained on the labels of its data if it is missing."""
    beta: float = 1.0
    """Temperature: a small one follows the reward more closely."""
    method: str = "tilting"
    """tilting; filtered (the run's own method, on samples with a high reward); reward_backpropagation; grpo; or a
    distillation method such as lmd, which learns from the steered velocity. Or a function of your own, MODULE:NAME,
    (reward, beta, reference) -> Method."""
    method_args: tuple[str, ...] = ()
    """Arguments of the method, as name=value; of filtered n, candidates, best, jumps and then."""
    data: str | None = None
    """Data instead of the data of the run, given as DATA of `train`."""
    data_args: tuple[str, ...] = ()
    """Options of the data set, as name=value."""
    standardise: bool = True
    """Standardise the columns of a table for training; samples come back in its units. --no-standardise (the same as
    --data-args standardise=False) keeps its numbers."""
    lora: int | None = None
    """Rank of LoRA, which leaves the run's own weights unchanged. None: train all weights."""
    lora_targets: tuple[str, ...] = ()
    """Layers that get LoRA, by the last parts of their names. None: attention and feed-forward layers."""
    n: Annotated[int, arg(aliases=["-n"])] = 1000
    """Samples whose rewards are compared before and after."""
    steps: int = 1000
    """Training steps."""
    batch_size: int = 64
    """Rows of one training step."""
    lr: float = 1e-4
    """Largest learning rate; it warms up, then falls linearly to 1% of this."""
    clip: float | None = 1.0
    """Largest norm of the gradient. None: no clipping."""
    out: Annotated[Path | None, arg(aliases=["-o"])] = None
    """Run folder. None: runs/RUN-METHOD, with a number if that exists."""
