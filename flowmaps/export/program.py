"""Write the one-step sampler, noise to samples, for other runtimes: ONNX, and a program of `torch.export`."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import install
from ..files import replacing
from ..flow_map import FlowMap
from ..sampling.in_order import makes_sequences
from ..sequences import Autoregressive
from .samplers import NextFrame, OneStep, in_turn


def _searchsorted(points: Tensor, x: Tensor, *, right: bool = False, **_: Any) -> Tensor:
    """Count the points below x; with `right` the points not above x."""
    return (points <= x[..., None] if right else points < x[..., None]).sum(-1)


def _sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


WRITTEN_OUT = {torch.ops.aten.searchsorted.Tensor: _searchsorted, torch.ops.aten.sigmoid.default: _sigmoid}
"""Operations that ONNX lacks, and sigmoid, because onnxruntime computes its small values inaccurately."""


def to_program(flow: FlowMap, file: str | Path, noise: Tensor, conditions: Mapping[str, Tensor] | None = None) -> Path:
    """Write the one-step sampler as a program of `torch.export` (.pt2), for torch.export.load(file).module().

    A head on a backbone is written as `samplers.NextFrame`, which `samplers.in_turn` calls frame by frame.
    The program accepts any number of rows, unless the network has a limit (a UNet of diffusers: 63 rows). Before it is
    kept it is loaded and compared with the flow map on the example.

    Args:
        flow: The flow map.
        file: The file to write.
        noise: An example of the noise (B, *shape) with B > 1; of sequences (B, T, C) with the largest T.
        conditions: Examples of the conditions (B, ...) by name. None: none.

    Returns:
        The file.

    Raises:
        ValueError: If the program differs, for an example of one row, and for a network that torch.export cannot
            follow.
    """
    with replacing(file) as beside, _quiet():
        content = BytesIO()  # in memory first, because torch ends the process if the disk is full
        torch.export.save(_program(flow, noise, conditions or {}), content)
        beside.write_bytes(content.getbuffer())
        program = torch.export.load(beside).module()
        _compare(flow, program, noise, conditions or {}, 1e-5)
    return Path(file)


def to_onnx(flow: FlowMap, file: str | Path, noise: Tensor, conditions: Mapping[str, Tensor] | None = None) -> Path:
    """Write the one-step sampler as ONNX: inputs `noise` and the conditions by name, output `samples`.

    A head on a backbone is written as `samplers.NextFrame`: inputs `past`, `frame`, `noise` and the conditions,
    outputs `samples`, and `ends` if it predicts ends.
    The sampler accepts any number of rows. Before the file is kept it is run in onnxruntime and compared with the flow
    map on the example.

    Args:
        flow: The flow map.
        file: The file to write.
        noise: An example of the noise (B, *shape) with B > 1; of sequences (B, T, C) with the largest T.
        conditions: Examples of the conditions (B, ...) by name. None: none.

    Returns:
        The file.

    Raises:
        ValueError: If the sampler differs, for an example of one row, and for a network that cannot be exported.
        ImportError: Without flowmaps[onnx].
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f"ONNX needs {error.name}: {install('onnx')}") from None
    ordered = makes_sequences(flow)
    names = [*(["past", "frame"] if ordered else []), "noise", *(conditions or {})]
    outputs = ["samples", "ends"] if ordered and getattr(flow.network, "ends", False) else ["samples"]
    with replacing(file) as beside, _quiet():
        program = _program(flow, noise, conditions or {}).run_decompositions(WRITTEN_OUT)
        options: dict[str, Any] = {"input_names": names, "output_names": outputs, "external_data": False}
        try:
            torch.onnx.export(program, (), str(beside), dynamo=True, verbose=False, **options)
        except torch.onnx.OnnxExporterError as error:
            raise ValueError(f"ONNX cannot express this network: {_cause(error)}") from error
        session = onnxruntime.InferenceSession(str(beside), providers=["CPUExecutionProvider"])

        def run(*values: Tensor) -> Any:
            inputs = {name: value.numpy() for name, value in zip(names, values, strict=True)}
            first, *others = map(torch.from_numpy, session.run(None, inputs))
            return (first, *others) if others else first

        _compare(flow, run, noise, conditions or {}, 1e-4)
    return Path(file)


def _cause(error: BaseException) -> str:
    """Return the first line of the error at the root of a chain."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().splitlines()[0]


def _sampler(flow: FlowMap, noise: Tensor, conditions: Mapping[str, Tensor]) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The function to write, and an example of its arguments."""
    if not makes_sequences(flow):
        return OneStep(flow, tuple(conditions)).eval(), (noise, *conditions.values())
    first = torch.zeros(len(noise), dtype=torch.long)
    return NextFrame(flow, tuple(conditions)).eval(), (noise, first, noise[:, 0], *conditions.values())


def _program(flow: FlowMap, noise: Tensor, conditions: Mapping[str, Tensor]) -> torch.export.ExportedProgram:
    if len(noise) < 2 or any(len(value) != len(noise) for value in conditions.values()):
        raise ValueError("the example needs at least two rows, as many in each condition as in the noise")
    (sampler, arguments), program = _sampler(flow, noise, conditions), None
    # as many rows as the network allows; strict follows len(x), which otherwise makes the number of rows a constant
    for rows, strict in ((torch.export.Dim.AUTO, False), (torch.export.Dim("rows"), True)):
        each = [{0: rows} for _ in arguments]
        shapes = (*each[: -len(conditions)], tuple(each[-len(conditions) :])) if conditions else tuple(each)
        try:
            with torch.no_grad():
                program = torch.export.export(sampler, arguments, dynamic_shapes=shapes, strict=strict)
        except (RuntimeError, NotImplementedError) as error:
            if program is None:
                raise ValueError(f"torch.export cannot follow this network: {_cause(error)}") from error
            break
        if not _has_fixed_rows(program, arguments):
            return program
    raise ValueError(
        f"the exported sampler would accept {len(noise)} rows alone, because the network computes with the number of "
        "rows as a constant, such as int(x.shape[0]): use x.shape[0] as it is"
    )


@torch.no_grad()
def _has_fixed_rows(program: torch.export.ExportedProgram, arguments: tuple[Tensor, ...]) -> bool:
    """Whether a program refuses a single row, while it accepts its example."""
    try:
        program.module()(*(value[:1] for value in arguments))
    except (AssertionError, RuntimeError):
        return True
    return False


@torch.no_grad()
def _compare(flow: FlowMap, run: Any, noise: Tensor, conditions: Mapping[str, Tensor], tolerance: float) -> None:
    """Check that samples agree for the example and for two other numbers of rows; ValueError otherwise."""
    ordered = makes_sequences(flow)
    sampler = OneStep(flow, tuple(conditions)).eval()
    for rows in (list(range(len(noise))), [0], [0, *range(len(noise))]):
        x, given = noise[rows], {name: value[rows] for name, value in conditions.items()}
        if ordered:
            expected, got = _sequences(flow, run, x, given)
        else:
            expected, got = sampler(x, *given.values()), run(x, *given.values())
        error = float((expected - got).abs().max() / expected.abs().max().clamp(min=1))
        if not error <= tolerance:
            raise ValueError(f"the exported sampler differs from the flow map by {error:.1g}: this is a bug, report it")


def _sequences(flow: FlowMap, run: Any, noise: Tensor, given: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Frames by the flow map and by a program of the next frame, 0 after the end, and the lengths beside them."""
    both = Autoregressive.of(flow).generate(noise=noise, condition=given), in_turn(run, noise, *given.values())
    count = len(both[0].frames[0])
    place = torch.arange(count)
    parts = [(one.frames[:, :count], one.lengths.clamp(max=count)[:, None]) for one in both]
    first, second = (torch.cat([(x * (place < n)[..., None]).flatten(1), n.to(x)], 1) for x, n in parts)
    return first, second


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the logs and warnings of the exporter."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
