"""The layers of a network that get an adapter."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

LINEAR = nn.Linear
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

OURS = {
    "MLP": r"blocks\.\d+\.(inner|outer)",
    "ConcatMLP": r"hidden\.\d+",
    "TokenTransformer": r"blocks\.\d+\.(attention\.(qkv|out)|inner|outer)",
    "DiT": r"blocks\.\d+\.(attention\.(qkv|out)|inner|outer)",
    "UNet": r".*\.attention\.(qkv|out)",
}
OF_DIFFUSERS = (
    r"(.*\.)?(to_(q|k|v|out\.0)|add_(q|k|v)_proj|to_add_out|ff(n|_context)?\.net\.(0\.proj|2)|proj_mlp)"
    r"|single_transformer_blocks\.\d+\.proj_out"
)
ELSEWHERE = (
    r"(.*\.)?(qkv|(to_)?(q|k|v|qkv|out)|to_out\.0|(q|k|v|o|out|gate|up|down)_proj|query|key|value|fc1|fc2|inner|outer"
    r"|(mlp|ff|ffn|feed_forward)\.\d+)"
)
"""Regular expressions for attention and feed-forward layers: of our classes, of diffusers, and for usual names."""

MOST_REPETITIONS = 3
"""Largest number of repetitions (*, + and {) in a regular expression of layers."""
Targets = str | Sequence[str] | None


def chosen(core: nn.Module, targets: Targets = None) -> list[str]:
    """Choose the layers to adapt.

    Args:
        core: The pretrained network.
        targets: A regular expression for the whole name, or a list of names or last parts of names. None: the attention
            and feed-forward layers.

    Returns:
        The names of the layers, in the network's order.

    Raises:
        ValueError: If nothing matches, naming the possible layers, for a layer that is neither linear nor a
            convolution, and for a regular expression that is broken or could take very long.
    """
    able, kind = adaptable(core), type(core).__name__
    if targets is None:
        usual = [name for name in able if isinstance(core.get_submodule(name), LINEAR) and _default(core, name)]
        if not usual:
            raise ValueError(f"which layers of {kind} are attention and feed-forward ones is not known: {_give(able)}")
        return usual
    found: set[str] = set()
    if isinstance(targets, str):
        _check_expression(targets)
    for target in [targets] if isinstance(targets, str) else targets:
        expression = target if isinstance(targets, str) else rf"(.*\.)?{re.escape(target)}"
        fits = [name for name, _ in core.named_modules() if name and re.fullmatch(expression, name)]
        if not fits:
            raise ValueError(f"{kind} has no layer {target!r}: {_give(able)}")
        if not set(fits) & set(able):
            found_kind = type(core.get_submodule(fits[0])).__name__
            raise ValueError(f"{fits[0]} is a {found_kind}, which LoRA cannot adapt: {_give(able)}")
        found |= set(fits)
    if not found:
        raise ValueError(f"targets names no layer: {_give(able)}")
    return [name for name in able if name in found]


def _check_expression(expression: str) -> None:
    """Refuse a regular expression that is broken, or that could try far too many ways; a run folder may hold it.

    The number of ways is bounded without repeated groups and with few repetitions.
    """
    try:
        re.compile(expression)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"targets is no regular expression: {error}") from None
    if re.search(r"\)[*+{]", expression) or len(re.findall(r"[*+{]", expression)) > MOST_REPETITIONS:
        raise ValueError(
            f"targets repeats a group, or has more than {MOST_REPETITIONS} repetitions: pass a list of names of layers"
        )


def adaptable(core: nn.Module) -> list[str]:
    """Name the layers that LoRA supports: linear layers and convolutions with torch's own forward."""
    inside = [f"{name}." for name, part in core.named_modules() if isinstance(part, nn.MultiheadAttention)]
    return [
        name
        for name, part in core.named_modules()
        if any(isinstance(part, kind) and type(part).forward is kind.forward for kind in (LINEAR, *CONVOLUTIONS))
        and not name.startswith(tuple(inside))  # its layers are never called, only their weights are read
    ]


def _default(core: nn.Module, name: str) -> bool:
    home = type(core).__module__.split(".")[0]
    ours = OURS.get(type(core).__name__) if home == "flowmaps" else None
    return re.fullmatch(ours or (OF_DIFFUSERS if home == "diffusers" else ELSEWHERE), name) is not None


def _give(able: list[str]) -> str:
    """Advise on the possible layers, with `*` instead of the numbers of blocks."""
    kinds = list(dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name) for name in able))
    more = f" and {len(kinds) - 20} more" if len(kinds) > 20 else ""
    return f"give targets= from {', '.join(kinds[:20])}{more}" if kinds else "it has none that LoRA could adapt"
