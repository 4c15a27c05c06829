"""A flow map in a single file: safetensors, with its description in the header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..arguments import expect_path, shown
from ..distributed.shards import cpu_copies, is_sharded
from ..files import load_tensors, opened_tensors, parse_json, replacing, save_tensors, sealed, unsealed
from ..flow_map import FlowMap
from ..serialise import current
from .documents import FlowFile, check
from .fingerprint import of_tensors
from .folder import flow_entry, versions, warn_of_later_version

FORMAT = 1
"""Format of the description."""
KEY, ENDING = "flowmaps", ".safetensors"
"""Name of the description in the header, and the end of the file's name."""
ADVICE = "restore the file that fm.save wrote"


def save(flow: FlowMap, path: str | Path) -> None:
    """Save a flow map without a run: its weights as safetensors, and its description in their header.

    `fm.load(path)` reads it. The description has the network, output, path, limits, guidance, `trained` and units; a
    network that is not part of flowmaps is passed to `fm.load` again. An existing file is replaced atomically.

    Args:
        flow: The flow map, on any device.
        path: The file, which ends in ".safetensors".

    Raises:
        TypeError: The flow map is something else.
        ValueError: The file has another ending, the flow map has a bound condition, which the file does not hold, or
            its weights are sharded over processes.
        OSError: The file cannot be written.
    """
    if not isinstance(flow, FlowMap):
        advice = ": wrap the network, FlowMap(network)" if isinstance(flow, nn.Module) else ""
        advice = ": save state.ema" if isinstance(getattr(flow, "ema", None), FlowMap) else advice
        raise TypeError(f"fm.save needs a FlowMap, got {shown(flow)}{advice}")
    expect_path("path", path)
    if Path(path).suffix != ENDING:
        raise ValueError(f"a flow map is saved as safetensors, in a file that ends in {ENDING}, got {path}")
    if flow.condition:
        raise ValueError(
            f"a bound condition is not saved, and this flow map has {', '.join(flow.condition)}: save the flow map "
            "without given(...)"
        )
    state = flow.state_dict()
    if any(map(is_sharded, state.values())):
        raise ValueError("the weights of this flow map are sharded over processes: save training.unshard(flow)")
    weights = cpu_copies(state.items())
    about = {"format": FORMAT, "flow": flow_entry(flow), "sha256": _digest(weights), "versions": versions()}
    with replacing(path) as temporary:
        save_tensors(temporary, weights, {KEY: json.dumps(sealed(about))})


def read(path: Path) -> dict[str, Any]:
    """Read the description in a file, which is checked like config.json.

    Args:
        path: The file.

    Returns:
        The description, with current public names.

    Raises:
        ValueError: The file is no flow map of this version or an earlier one, or its header has changed.
    """
    with opened_tensors(path, ADVICE) as file:
        text = (file.metadata() or {}).get(KEY)
    if text is None:
        raise ValueError(f"{path} holds tensors without the description of a flow map, which fm.save writes")
    try:
        content = parse_json(text)
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}") from None
    check(content, FlowFile, path)
    if content["format"] > FORMAT:
        raise ValueError(
            f"{path} has format {content['format']}, but this version of flowmaps reads at most {FORMAT}: it was "
            "written by a later version"
        )
    if not unsealed(content)[1]:
        raise ValueError(f"{path} is damaged: its description has changed since it was written")
    warn_of_later_version(path, content["versions"].get("flowmaps"))
    return current(content)


def read_weights(path: Path, expected: str) -> dict[str, Tensor]:
    """Read the weights, after the description, which has their digest. Raises ValueError if they have changed."""
    weights = load_tensors(path)
    if _digest(weights) != expected:
        raise ValueError(f"{path} is damaged: its weights have changed since they were written")
    return weights


def _digest(weights: Mapping[str, Tensor]) -> str:
    """Compute the digest of all weights, in the order of their names."""
    return of_tensors(weights[name] for name in sorted(weights))
