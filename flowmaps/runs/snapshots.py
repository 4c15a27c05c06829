"""The weights of a run over its training, from the checkpoints that its folder keeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..flow_map import FlowMap
from .beside import unchanged
from .checkpoint_reading import complete, read_model, read_state
from .folder import Run
from .loading import filled


def kept_steps(run: Path) -> list[int]:
    """The steps of the checkpoints that a run folder keeps, without a check of their files."""
    return [int(path.name.removeprefix("step_")) for path in complete(Run(run).checkpoints)]


def over_training(run: Path, flow: FlowMap, *, ema: bool = True) -> Iterator[int]:
    """Load the weights of each checkpoint that a run folder keeps into its flow map, in their order.

    Args:
        run: The run folder.
        flow: The flow map that `load` has built from it.
        ema: Whether to load the averaged weights instead of the trained weights.

    Yields:
        The step of the weights.

    Raises:
        ReplacedError: Training has removed a checkpoint meanwhile.
        ValueError: A checkpoint is damaged.
    """
    name = "ema" if ema else "flow"
    for path in complete(Run(run).checkpoints):
        with unchanged(path):
            state = read_state(path, (name,))
            weights = read_model(path, name)
        filled(flow, weights, path)
        yield state["step"]
