"""From a run folder back to the flow map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from ..flow_map import FlowMap
from ..serialise import build
from .checkpoint import latest, read_model
from .folder import Run, read_config


def load(run: str | Path, network: nn.Module | None = None, *, ema: bool = True) -> FlowMap:
    """The flow map that a run folder holds, on the CPU, in evaluation mode: the averaged weights of its newest whole
    checkpoint.

    network: needed where the run's network is not one of flowmaps; a FlowMap where its output or path is not either.
    ema=False: the weights as they were trained. Nothing is unpickled. A damaged checkpoint is passed over with a
    warning. Raises FileNotFoundError where there is no run or no checkpoint, OSError where the folder of the model is
    gone that the run was trained on and does not hold itself, ValueError where all checkpoints are damaged, where a
    network is needed, or where the weights do not fit it.
    """
    flow = network if isinstance(network, FlowMap) else rebuild(read_config(run)["flow"], network)
    found = latest(Run(Path(run)).checkpoints)
    if found is None:
        raise FileNotFoundError(f"the run in {run} has no checkpoint yet")
    weights = read_model(found[0], "ema" if ema else "flow")
    for name, value in flow.state_dict(keep_vars=True).items():
        value.data = value.data.to(weights[name].dtype if name in weights else value.dtype)
    try:
        flow.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"the weights in {found[0]} do not fit this network: {' '.join(str(error).split())}") from None
    return flow.eval()


def rebuild(config: dict[str, Any], network: nn.Module | None) -> FlowMap:
    """A FlowMap from the "flow" part of config.json, around `network` where one is given."""
    parts = dict(config)
    if network is not None:
        parts["network"] = None
    for name, part in parts.items():
        if isinstance(part, dict) and "unknown" in part:
            instead = "network=" if name == "network" else "a whole FlowMap as network="
            raise ValueError(
                f"the {name} of this run cannot be rebuilt from a file, not being part of flowmaps: pass {instead} "
                f"({part['unknown']})"
            )
    try:
        built = {name: build(part) for name, part in parts.items()}
    except OSError as error:
        raise type(error)(
            f"what this run was trained on cannot be had: {error}. If it is elsewhere now, pass the whole FlowMap "
            "around it as network="
        ) from error
    around = built["network"] if network is None else network
    return FlowMap(around, built["output"], built["path"], **_options(built))


def _options(built: dict[str, Any]) -> dict[str, Any]:
    """What a map knows and what guidance it has learned, which older runs do not say."""
    return {name: built[name] for name in ("only_source", "only_target")} | {"guidance": built.get("guidance")}
