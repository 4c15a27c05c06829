"""Checks of tensors, which read no value, and of their values."""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .numbers import shown

_short = reprlib.Repr()
_short.maxstring, _short.maxother = 80, 200


def expect_tensor(name: str, x: Any) -> None:
    """Check that a value is a dense tensor.

    Args:
        name: Its name in the message.
        x: The value.

    Raises:
        TypeError: It is no tensor, or a sparse, nested or quantized one.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor, got {shown(x)}: convert it with torch.as_tensor")
    if x.layout is not torch.strided or x.is_nested or x.is_quantized:
        kind = "nested" if x.is_nested else "quantized" if x.is_quantized else str(x.layout).removeprefix("torch.")
        raise TypeError(f"{name} must be a dense tensor, got one of the kind {kind}")


def expect_floating(name: str, x: Any, rows: str = "(B, ...)", least: int = 1) -> None:
    """Check that a value is a batch of floating-point numbers. It reads no value, so it never waits for a device.

    Args:
        name: Its name in the message.
        x: The value.
        rows: The expected shape, in the message.
        least: Least number of dimensions.

    Raises:
        TypeError: It is no dense tensor.
        ValueError: It has another dtype or too few dimensions.
    """
    expect_tensor(name, x)
    if not x.is_floating_point() or x.ndim < least:
        advice = "" if x.is_floating_point() or x.is_complex() else f": pass {name}.float() if these are its values"
        raise ValueError(
            f"{name} must be a batch of floating-point numbers, {rows}, got {x.dtype} of shape {tuple(x.shape)}{advice}"
        )


def expect_finite(name: str, x: Tensor) -> None:
    """Check that all values are finite. It reads them.

    Args:
        name: Name of the values in the message.
        x: The values, (B, ...).

    Raises:
        ValueError: Some values are NaN or infinite.
    """
    if not bool(x.isfinite().all()):
        rows = int((~x.isfinite()).reshape(len(x), -1).any(1).sum())
        raise ValueError(f"{name} must be finite, and {rows} of its {len(x)} rows hold NaN or infinite values")


def is_readable(x: Tensor) -> bool:
    """Whether a tensor has values: a meta tensor has none, and neither has a fake one that counts operations."""
    return type(x) in (Tensor, nn.Parameter) and not x.is_meta


def version(x: Any) -> int | None:
    """A number that changes whenever a tensor is written in place; None where torch keeps none.

    It reads no value. A network or a teacher that writes into its input would make every later formula wrong.
    """
    if type(x) is not Tensor or torch.compiler.is_compiling() or x.is_inference():
        return None
    return x._version


def refuse_written(name: str, x: Any, before: int | None) -> None:
    """Check that a tensor was not written since `version` was read.

    Args:
        name: The subject of the message, such as "the teacher".
        x: The tensor.
        before: Its version before.

    Raises:
        ValueError: It was written in place.
    """
    if before is not None and version(x) != before:
        raise ValueError(f"{name} writes into its input x, which is used again: let it compute on x.clone()")


def brief(value: Any) -> str:
    """Write a value for a repr in a few words: a tensor by its shape, a number among tensors by its value.

    Args:
        value: The value.

    Returns:
        The text, of at most about 200 characters.
    """
    if isinstance(value, Tensor):
        if value.numel() == 1 and is_readable(value.detach()):
            return f"{value.item():.4g}"
        return f"tensor{tuple(value.shape)}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {brief(item)}' for key, item in list(value.items())[:6])}}}"
    if isinstance(value, nn.Module):
        return f"{type(value).__name__}(...)"
    return _short.repr(value)


def brief_repr(value: Any, names: Iterable[str] | None = None) -> str:
    """Write an object as Name(field=..., ...), without the numbers of its tensors.

    Args:
        value: The object.
        names: Names of its attributes to show. None: the fields of a dataclass. Attributes that are None or empty are
            left out.

    Returns:
        The text.
    """
    chosen = [field.name for field in dataclasses.fields(value) if field.repr] if names is None else names
    fields = {name: getattr(value, name) for name in chosen}
    known = {name: item for name, item in fields.items() if item is not None and not _is_empty(item)}
    return f"{type(value).__name__}({', '.join(f'{name}={brief(item)}' for name, item in known.items())})"


def _is_empty(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple | str) and not len(value)
