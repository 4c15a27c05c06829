"""Loading the flow map of a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from ..arguments import expect_path, shown, truth
from ..flow_map import FlowMap
from ..serialise import build
from .checkpoint import latest, read_model
from .folder import Run, read_config


def load(run: str | Path, network: nn.Module | None = None, *, ema: bool = True) -> FlowMap:
    """Load the flow map of a run folder, from its newest valid checkpoint.

    Nothing is unpickled. A damaged checkpoint is skipped with a warning.

    Args:
        run: The run folder.
        network: The network, if it is not part of flowmaps; a whole FlowMap if its output or path is not part of
            flowmaps. None: built from config.json.
        ema: Whether to load the averaged weights instead of the trained weights.

    Returns:
        The flow map, on the CPU, in evaluation mode.

    Raises:
        FileNotFoundError: If there is no run or no checkpoint.
        OSError: If the network refers to the folder of a pretrained model, and that folder is missing.
        ValueError: If all checkpoints are damaged, `network` is needed, or the weights do not match it.
    """
    expect_path("run", run)
    truth(ema=ema)
    if network is not None and not isinstance(network, nn.Module):
        raise TypeError(f"network must be a module, or a whole FlowMap, got {shown(network)}")
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
    """Build a flow map from the "flow" entry of config.json, with untrained weights.

    Args:
        config: The entry.
        network: The network to use instead of the described one. None: the described one.

    Returns:
        The flow map.

    Raises:
        ValueError: If a described part does not belong to flowmaps.
        OSError: If the pretrained model of the network cannot be loaded.
    """
    parts = dict(config)
    if network is not None:
        parts["network"] = None
    for name, part in parts.items():
        if isinstance(part, dict) and "unknown" in part:
            instead = "network=" if name == "network" else "a whole FlowMap as network="
            raise ValueError(
                f"the {name} of this run is not part of flowmaps and cannot be rebuilt from a file: pass {instead} "
                f"({part['unknown']})"
            )
    try:
        built = {name: build(part) for name, part in parts.items()}
    except OSError as error:
        raise type(error)(
            f"the pretrained model of this run cannot be loaded: {error}. If it has moved, pass a whole FlowMap around "
            "it as network="
        ) from error
    around = built["network"] if network is None else network
    return FlowMap(around, built["output"], built["path"], **_options(built))


def _options(built: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a flow map; older runs have no guidance."""
    return {name: built[name] for name in ("only_source", "only_target")} | {"guidance": built.get("guidance")}
