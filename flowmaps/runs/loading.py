"""Load the flow map of a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from ..flow_map import FlowMap
from ..serialise import build
from .checkpoint import latest, read_model
from .folder import Run, read_config


def load(run: str | Path, network: nn.Module | None = None, *, ema: bool = True) -> FlowMap:
    """Load the flow map of a run folder from its newest whole checkpoint.

    Nothing is unpickled. A damaged checkpoint is passed over with a warning.

    Args:
        run: The run folder.
        network: Needed if the network of the run is not part of flowmaps. A whole FlowMap if its output or path is not
            either.
        ema: Whether to take the averaged weights, or the weights as they were trained.

    Returns:
        The flow map, on the CPU, in evaluation mode.

    Raises:
        FileNotFoundError: If there is no run or no checkpoint.
        OSError: If the folder of the model is gone that the run was trained on and does not hold itself.
        ValueError: If all checkpoints are damaged, a network is needed, or the weights do not fit it.
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
    """Build a flow map from the "flow" part of config.json, with new weights.

    Args:
        config: The part of the configuration.
        network: The network to put in the place of the one that is described. None: the one that is described.

    Returns:
        The flow map.

    Raises:
        ValueError: If a part is described that is not part of flowmaps.
        OSError: If the model that a network was made from cannot be had.
    """
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
    """The times and the guidance that a map knows, which older runs do not say."""
    return {name: built[name] for name in ("only_source", "only_target")} | {"guidance": built.get("guidance")}
