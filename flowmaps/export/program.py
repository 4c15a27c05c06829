"""The one-step sampler, noise to samples, as a file that other runtimes read: ONNX, and a program of `torch.export`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..flow_map import FlowMap

Conditions = Mapping[str, Tensor]


class OneStep(nn.Module):
    """F(x, 1, 0) as a function of the noise (B, *shape), standard normal, and of conditions (B, ...) by name."""

    def __init__(self, flow: FlowMap, names: tuple[str, ...]) -> None:
        super().__init__()
        self.flow, self.names = flow, names
        self.scale = float(flow.path.sigma(torch.ones((), dtype=torch.float64)))

    def forward(self, noise: Tensor, *conditions: Tensor) -> Tensor:
        flow = self.flow.given(**dict(zip(self.names, conditions, strict=True)))
        return flow(noise * self.scale, 1.0, 0.0)


def to_program(flow: FlowMap, file: str | Path, noise: Tensor, conditions: Conditions | None = None) -> Path:
    """Write the one-step sampler as a program of `torch.export` (.pt2), for torch.export.load(file).module().

    noise (B, *shape) and conditions (B, ...) are an example with B > 1; any number of rows will do afterwards. The
    program is loaded again and compared on the example before it is kept. Raises ValueError where it differs.
    """
    with _made_whole(file) as beside:
        torch.export.save(_program(flow, noise, conditions or {}), beside)
        program = torch.export.load(beside).module()
        _compare(flow, lambda x, given: program(x, *given.values()), noise, conditions or {}, 1e-5)
    return Path(file)


def to_onnx(flow: FlowMap, file: str | Path, noise: Tensor, conditions: Conditions | None = None) -> Path:
    """Write the one-step sampler as ONNX: inputs `noise` and the conditions by name, output `samples`, any number of
    rows.

    noise (B, *shape) and conditions (B, ...) are an example with B > 1. The file is run in onnxruntime and compared on
    the example before it is kept. Raises ValueError where it differs, ImportError without flowmaps[onnx].
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f"ONNX needs {error.name}: pip install flowmaps[onnx]") from None
    names = ["noise", *(conditions or {})]
    with _made_whole(file) as beside, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, on parts of torch that it uses
        program = _program(flow, noise, conditions or {})
        options: dict[str, Any] = {"input_names": names, "output_names": ["samples"], "external_data": False}
        torch.onnx.export(program, (), str(beside), dynamo=True, verbose=False, **options)
        session = onnxruntime.InferenceSession(str(beside), providers=["CPUExecutionProvider"])

        def run(x: Tensor, given: Conditions) -> Tensor:
            values = dict(zip(names, (x, *given.values()), strict=True))
            return torch.from_numpy(session.run(None, {name: value.numpy() for name, value in values.items()})[0])

        _compare(flow, run, noise, conditions or {}, 1e-4)
    return Path(file)


def _program(flow: FlowMap, noise: Tensor, conditions: Conditions) -> torch.export.ExportedProgram:
    if len(noise) < 2 or any(len(value) != len(noise) for value in conditions.values()):
        raise ValueError("the example needs at least two rows, as many in each condition as in the noise")
    rows = torch.export.Dim("rows")
    sampler = OneStep(flow, tuple(conditions)).eval()
    shapes = ({0: rows}, tuple({0: rows} for _ in conditions))
    with torch.no_grad():
        return torch.export.export(sampler, (noise, *conditions.values()), dynamic_shapes=shapes, strict=False)


@torch.no_grad()
def _compare(flow: FlowMap, run: Any, noise: Tensor, conditions: Conditions, tolerance: float) -> None:
    """The same samples, for the example and for one row more and less. Raises ValueError otherwise."""
    sampler = OneStep(flow, tuple(conditions)).eval()
    for rows in (list(range(len(noise))), [0], [0, *range(len(noise))]):
        x, given = noise[rows], {name: value[rows] for name, value in conditions.items()}
        expected, got = sampler(x, *given.values()), run(x, given)
        error = float((expected - got).abs().max() / expected.abs().max().clamp(min=1))
        if not error <= tolerance:
            raise ValueError(f"the exported sampler differs from the flow map by {error:.1g}: this is a bug, report it")


@contextmanager
def _made_whole(file: str | Path) -> Iterator[Path]:
    """A file beside the wanted one, which gets its name when it is whole."""
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.stem}.tmp{file.suffix}")
    try:
        yield beside
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
