"""Fingerprints: any object as JSON in config.json, readable, and to detect changes before a run is resumed.

Unlike a description of `flowmaps.serialise`, a fingerprint exists for any object and cannot be converted back. Things
have their public names. The entries in `CONTENTS` stand for contents: tensors, weights, code and attributes.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from types import CodeType
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.parameter import is_lazy

from ..files import add_tensor, json_checksum, weights_checksum
from ..serialise import public_name

CONTENTS = frozenset(
    ("sha256", "weights_sha256", "whole_sha256", "code_sha256", "defaults", "globals", "attributes", "holds")
)
"""Entries that stand for contents, which a run of version 0.1.0 does not have."""
SMALL, SAMPLE = 64 * 2**20, 2**16
"""Bytes of a tensor up to which all are read, and the number of entries that are read of a larger one."""
DEEP, LONG = 6, 100
"""Depth and length up to which objects without a description are searched for tensors, weights and functions."""


@dataclass(frozen=True)
class Walk:
    """State on the way through an object.

    Attributes:
        known: Identities of weights that are not described: those in training, and those that are described already.
        whole: Whether all numbers of weights are read instead of a sample.
        above: Identities of the objects around this one.
    """

    known: frozenset[int] = frozenset()
    whole: bool = False
    above: tuple[int, ...] = ()

    def into(self, value: Any, weights: Iterable[Tensor] = ()) -> Walk:
        """The state inside an object, whose weights are known then."""
        return Walk(self.known | {id(weight) for weight in weights}, self.whole, (*self.above, id(value)))


def fingerprint(value: Any, trained: Iterable[Tensor] = (), whole: bool = False) -> Any:
    """Describe any object by nested dicts, lists, numbers and strings.

    Args:
        value: Any object. Closures and partial functions are described with their values; tensors by shape, dtype and
            digest; modules by their settings and a digest of their weights.
        trained: Weights that are trained, which are not described.
        whole: Whether the digest of weights covers all numbers. By default it covers a sample of each weight.

    Returns:
        JSON, equal for equal settings and contents of one version.
    """
    return _walk(value, Walk(frozenset(map(id, trained)), whole))


def of_tensors(tensors: Iterable[Tensor]) -> str:
    """Compute a digest of all bytes of some tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        add_tensor(digest, tensor)
    return short(digest.hexdigest())


def short(checksum: str) -> str:
    """Return the part of a SHA-256 that fingerprints hold, 64 bits, so that messages stay readable."""
    return checksum[:16]


def _walk(value: Any, walk: Walk) -> Any:
    """Describe an object inside others."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_walk(item, walk) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _walk(item, walk) for key, item in value.items()}
    if isinstance(value, Tensor):
        return _tensor(value, walk)
    if isinstance(value, (torch.dtype, torch.device)):
        return str(value)
    if isinstance(value, functools.partial):
        return _named(value.func, [*value.args, value.keywords] if value.args else value.keywords, walk)
    if isinstance(value, type):
        return public_name(value)
    if id(value) in walk.above:
        return {"type": public_name(type(value))}
    if inspect.isroutine(value) or callable(getattr(value, "__wrapped__", None)):
        return _function(value, walk.into(value))
    return _object(value, walk)


def _tensor(value: Tensor, walk: Walk) -> dict[str, Any]:
    """Describe a tensor, with a digest unless it is trained or has no memory. Of a large one a sample is read."""
    known: dict[str, Any] = {"tensor": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
    if id(value) in walk.known or not _has_numbers(value):
        return known
    large = value.numel() * value.element_size() > SMALL
    some = value.detach().reshape(-1)[:: value.numel() // SAMPLE] if large else value
    whole = {"whole_sha256": of_tensors([value])} if large and walk.whole else {}
    return known | {"sha256": of_tensors([some])} | whole


def _has_numbers(value: Any) -> bool:
    """Whether an object is a tensor with memory on this process."""
    if not isinstance(value, Tensor) or isinstance(value, FakeTensor) or hasattr(value, "full_tensor"):
        return False
    return not (is_lazy(value) or value.is_meta or value.is_quantized) and value.layout is torch.strided


def _named(function: Any, values: Any, walk: Walk, **contents: Any) -> Any:
    """Describe a function by its name, its bound values and its contents."""
    name, contents = public_name(function), {key: item for key, item in contents.items() if item}
    bound = {"with": _walk(values, walk)} if values else {}
    return {"function": name, **bound, **contents} if bound or contents else name


def _function(value: Any, walk: Walk) -> Any:
    """Describe a function, a method or a wrapper, with the code of functions that do not belong to a library."""
    if inspect.ismethod(value):
        return _named(value, {}, walk, holds=None if isinstance(value.__self__, type) else _walk(value.__self__, walk))
    inner = getattr(value, "__wrapped__", None)
    if callable(inner):
        return _named(value, {}, walk, holds=_walk(inner, walk) if _is_own(inner) else None)
    if not inspect.isfunction(value):
        return {"type": public_name(type(value)), "holds": getattr(value, "__name__", "")}
    scope = inspect.getclosurevars(value)
    kept = {name: item for name, item in scope.nonlocals.items() if item is not value}
    if not _is_own(value):
        return _named(value, kept, walk)
    numbers = {name: item for name, item in scope.globals.items() if isinstance(item, (bool, int, float))}
    defaults = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    code = short(json_checksum(_code(value.__code__, value.__doc__)))
    return _named(value, kept, walk, defaults=_walk(defaults, walk), globals=numbers, code_sha256=code)


def _is_own(function: Any) -> bool:
    """Whether a function belongs to the user, not to this package, torch or Python."""
    package = str(getattr(function, "__module__", "")).partition(".")[0]
    return package not in ("flowmaps", "torch") and package not in sys.stdlib_module_names - {"__main__"}


def _code(code: CodeType, doc: str | None) -> list[Any]:
    """Return the instructions and constants of a function, without line numbers and without its docstring."""
    kept = (item for item in code.co_consts if item is None or item is not doc)
    constants = [_code(item, None) if isinstance(item, CodeType) else _constant(item) for item in kept]
    return [code.co_code.hex(), list(code.co_names), constants]


def _constant(item: Any) -> str:
    """Return a constant as text, sets in a fixed order."""
    return f"set {sorted(map(repr, item))}" if isinstance(item, frozenset) else repr(item)


def _object(value: Any, walk: Walk) -> dict[str, Any]:
    """Describe an object by the name of its class, its known arguments and its contents."""
    known: dict[str, Any] = {"type": public_name(type(value))}
    weights = _weights(value, walk) if isinstance(value, nn.Module) else {}
    inside = walk.into(value, weights.values())
    if hasattr(value, "_arguments"):
        known["arguments"] = _walk(value._arguments, inside)
    elif dataclasses.is_dataclass(value):
        known["arguments"] = {f.name: _walk(getattr(value, f.name), inside) for f in dataclasses.fields(value)}
    elif isinstance(value, nn.Module):
        known["arguments"] = {name: item for name, item in vars(value).items() if _is_setting(name, item)}
        known |= _held({name: item for name, item in vars(value).items() if _is_described(item)}, inside)
    else:
        known |= _plain(value, inside)
    if sampled := weights and weights_checksum(weights):
        known["weights_sha256"] = short(sampled)
        if walk.whole:
            known["whole_sha256"] = of_tensors(weight for _, weight in sorted(weights.items()))
    return known


def _weights(module: nn.Module, walk: Walk) -> dict[str, Tensor]:
    """Return the weights and buffers of a module that are not trained and not described already."""
    found = module.state_dict(keep_vars=True).items()
    return {name: item for name, item in found if _has_numbers(item) and id(item) not in walk.known}


def _plain(value: Any, walk: Walk) -> dict[str, Any]:
    """Describe the contents of an object without known arguments."""
    if hasattr(value, "tobytes") and hasattr(value, "dtype"):
        return {"holds": [str(value.dtype), list(value.shape), short(hashlib.sha256(value.tobytes()).hexdigest())]}
    fields = getattr(value, "__dict__", None)
    if fields is None:
        text = repr(sorted(map(repr, value))) if isinstance(value, (set, frozenset)) else repr(value)
        kind = "attributes" if isinstance(value, PurePath) else "holds"
        return {} if " at 0x" in text or len(text) > LONG else {kind: text}
    if len(walk.above) > DEEP or type(value).__module__.partition(".")[0] in sys.stdlib_module_names - {"__main__"}:
        return {}
    simple = {name: item for name, item in fields.items() if _is_setting(name, item)}
    others = {name: item for name, item in fields.items() if name not in simple and _is_content(name, item)}
    return ({"attributes": simple} if simple else {}) | _held(others, walk)


def _held(fields: Mapping[str, Any], walk: Walk) -> dict[str, Any]:
    """Describe attributes by name."""
    return {"holds": {name: _walk(item, walk) for name, item in fields.items()}} if fields else {}


def _is_described(item: Any) -> bool:
    """Whether an attribute is a function or a dataclass, which has a fingerprint of its own."""
    return inspect.isroutine(item) or isinstance(item, functools.partial) or dataclasses.is_dataclass(item)


def _is_content(name: str, item: Any) -> bool:
    """Whether an attribute of a plain object is one of its contents: public ones, and modules in any case."""
    if isinstance(item, nn.Module):
        return True
    if isinstance(item, (list, tuple, Mapping)):
        inside: Collection[Any] = item.values() if isinstance(item, Mapping) else item
        return len(inside) <= LONG and any(_is_content(name, part) for part in inside)
    simple = item is None or isinstance(item, (bool, int, float, str, type))
    return not name.startswith("_") and not simple


def _is_setting(name: str, item: Any) -> bool:
    """Whether an attribute of a module or of a plain object is one of its settings."""
    return not name.startswith("_") and name != "training" and isinstance(item, (bool, int, float, str))
