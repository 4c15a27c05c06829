"""Flow maps as records, plain values of JSON that the script of a page evaluates; see `scripts/networks.js`."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ... import links
from ...flow_map import FlowMap
from ...manifolds import Sphere
from ...networks import MLP
from ...networks.embeddings import Fourier, TimeConditioning, gap, raw
from ...networks.layers import rms_norm, unchanged
from ...outputs import Endpoint, Output, average_velocity
from ...path import Geodesic, Path, linear, trigonometric
from ...students import Student
from ...students.student import Diagonal

MODULATIONS = {"unchanged": unchanged, "rms_norm": rms_norm}
LINKS = {"identity": links.identity, "softmax": links.softmax}
GUIDANCE = ("guidance",)


class NotInPages(ValueError):
    """A flow map that the script of a page cannot evaluate; the message says why."""


def record(flow: FlowMap, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """Describe a flow map around an `MLP` with everything that its evaluation needs.

    The network may also be a guidance-conditioned `fm.students.Student` of an MLP, with `tame=False`.

    Args:
        flow: The flow map.
        dtype: float32, or float16, which rounds the weights and halves the record.

    Returns:
        A dict of JSON values: path, output, limits, and the network with its weights as text (base64).

    Raises:
        NotInPages: The network is no MLP, or path, output or times are of a kind that the page does not know.
    """
    network, new = _parts(flow.network)
    return {
        "path": _path(flow.path),
        "output": _output(flow.output),
        "source": flow.only_source,
        "target": flow.only_target,
        "network": _network(network, dtype, new),
    }


def _parts(network: nn.Module) -> tuple[MLP, nn.Module | None]:
    """The MLP, and the embedding of s - t and the guidance scale where it is in a guidance-conditioned student."""
    if type(network) is MLP:
        return network, None
    if not isinstance(network, Student) or type(network.network) is not Diagonal:
        raise NotInPages(f"a page evaluates fm.networks.MLP alone, and this network is {type(network).__name__}")
    inner = network.network.network
    if type(inner) is not MLP or network.times is not gap or network.told != GUIDANCE or network.tame is not None:
        raise NotInPages("a page knows students of an MLP that see s - t and the guidance scale, with tame=False")
    return inner, network.new


def _path(path: Path) -> str:
    known = {"linear": path == linear, "trigonometric": path == trigonometric}
    if isinstance(path, Geodesic) and path.manifold == Sphere(2):
        return "sphere"
    for name, same in known.items():
        if same:
            return name
    raise NotInPages(f"a page knows the linear and the trigonometric path, and the sphere, and this one is {path}")


def _output(output: Output) -> dict[str, Any]:
    if output is average_velocity:
        return {"kind": "average_velocity"}
    if isinstance(output, Endpoint):
        for name, link in LINKS.items():
            if output.link is link:
                return {"kind": "endpoint", "min_time": output.min_time, "link": name}
    raise NotInPages(f"a page knows the outputs average_velocity and Endpoint, and this one is {output!r}")


def _network(network: MLP, dtype: torch.dtype, new: nn.Module | None) -> dict[str, Any]:
    conditioning = network.conditioning
    features = conditioning.time.features
    if isinstance(features, Fourier):
        seen = _fourier(features)
    elif features is raw:
        seen = {}
    else:
        raise NotInPages(f"a page knows Fourier features and raw times, and this network has {features!r}")
    modulate = next((name for name, function in MODULATIONS.items() if function is network.modulate), None)
    if modulate is None:
        raise NotInPages(f"a page knows no modulation {network.modulate!r}")
    if network.value_shape != network.shape:
        raise NotInPages("a page evaluates networks whose value has the shape of x")
    weights = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    if new is not None:
        weights |= {f"new.{name}": weight for name, weight in new.named_parameters()}
    return {
        "size": math.prod(network.shape),
        "width": network.input.out_features,
        "depth": len(network.blocks),
        "data_std": network.data_std,
        "modulate": modulate,
        "times": _times(conditioning.times, conditioning.depth),
        "features": seen,
        "guidance": None if new is None else _fourier(new.features),
        "classes": None if conditioning.label is None else conditioning.label.classes,
        "shapes": {name: list(weight.shape) for name, weight in weights.items()},
        "weights": _encoded(weights, dtype),
        "bits": torch.finfo(dtype).bits,
    }


def _fourier(features: Any) -> dict[str, Any]:
    return {"frequencies": features.frequencies, "low": features.low, "high": features.high}


def _times(times: TimeConditioning, depth: int) -> list[Any]:
    """[[a, b, c] for the time a s + b t + c of each view] and the number of layers; time conditionings are affine."""
    at = {(s, t): times(s, t, depth) for s, t in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.3, 0.8))}
    found = []
    for view, (seen, layers) in enumerate(at[0.0, 0.0]):
        rows = []
        for i, c in enumerate(seen):
            a, b = (at[point][view][0][i] - c for point in ((1.0, 0.0), (0.0, 1.0)))
            if abs(a * 0.3 + b * 0.8 + c - at[0.3, 0.8][view][0][i]) > 1e-12:
                raise NotInPages(f"a page knows time conditionings that are linear in s and t, and {times!r} is not")
            rows.append([a, b, c])
        found.append([rows, layers])
    return found


def _encoded(weights: Mapping[str, Tensor], dtype: torch.dtype) -> str:
    flat = torch.cat([weight.detach().flatten().cpu().float() for weight in weights.values()])
    if not bool(flat.isfinite().all()) or float(flat.abs().max()) > torch.finfo(dtype).max:
        raise NotInPages(f"the weights of this network are not finite in {dtype}")
    return base64.b64encode(flat.to(dtype).numpy().astype(f"<f{torch.finfo(dtype).bits // 8}").tobytes()).decode()


def rounded(flow: FlowMap, dtype: torch.dtype) -> FlowMap:
    """Round the weights of a flow map as `record` does, in place, so that Python computes the numbers of the page.

    Args:
        flow: The flow map.
        dtype: As for `record`.

    Returns:
        The flow map.
    """
    with torch.no_grad():
        for weight in (*flow.parameters(), *flow.buffers()):
            weight.copy_(weight.to(dtype).to(weight.dtype))
    return flow


def decoded(made: Mapping[str, Any]) -> FlowMap:
    """Make the flow map of a record, the inverse of `record`.

    Args:
        made: The record.

    Returns:
        The flow map in float64, with the weights of the record.
    """
    known = made["network"]
    shapes = {name: tuple(shape) for name, shape in known["shapes"].items()}
    kind = f"<f{known['bits'] // 8}"
    flat = torch.frombuffer(bytearray(base64.b64decode(known["weights"])), dtype=_dtype(kind)).double()
    sizes = [math.prod(shape) for shape in shapes.values()]
    weights = {name: part.reshape(shapes[name]) for name, part in zip(shapes, flat.split(sizes), strict=True)}
    views = known["times"]

    def times(s: Any, t: Any, depth: int) -> list[Any]:
        return [(tuple(a * s + b * t + c for a, b, c in rows), layers) for rows, layers in views]

    features = Fourier(**known["features"]) if known["features"] else raw
    module = MLP(
        known["size"], known["width"], known["depth"], times=times, features=features,
        embedding=shapes["modulation.weight"][1], classes=known["classes"], data_std=known["data_std"],
        modulate=MODULATIONS[known["modulate"]], waves=shapes["waves"][1] if "waves" in shapes else 0,
    )  # fmt: skip
    network: nn.Module = module
    if known.get("guidance") is not None:
        network = Student(Diagonal(module), told=GUIDANCE)
        weights = {name if name.startswith("new.") else f"network.network.{name}": w for name, w in weights.items()}
    network.double().load_state_dict(weights)
    output = made["output"]
    path = {"linear": linear, "trigonometric": trigonometric}.get(made["path"]) or Geodesic(Sphere(2))
    flow = FlowMap(
        network,
        average_velocity
        if output["kind"] == "average_velocity"
        else Endpoint(output["min_time"], LINKS[output["link"]]),
        path,
        only_source=made["source"],
        only_target=made["target"],
    )
    return flow.requires_grad_(False)


def _dtype(kind: str) -> torch.dtype:
    return {"<f2": torch.float16, "<f4": torch.float32}[kind]
