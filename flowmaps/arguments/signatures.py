"""How a network is called: a flow map's with two times, a critic with one."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from torch import nn

from .numbers import shown

CONDITIONS = {
    "added_cond_kwargs", "c", "class_label", "class_labels", "classes", "cond", "condition", "conditioning",
    "conditions", "context", "encoder_hidden_states", "guidance", "label", "labels", "mask", "return_dict", "text", "y",
}  # fmt: skip
"""Usual names of arguments that are no time."""


def expect_two_times(network: nn.Module) -> None:
    """Refuse a module whose `forward` does not take (x, s, t), such as the network (x, t, label) of a diffusion model.

    A condition in the place of the target time would be silently wrong.

    Args:
        network: The module; its own class decides.

    Raises:
        TypeError: It takes fewer than two times after x.
    """
    kind: Any = type(network)
    if "forward" not in vars(network) and (found := _one_time(kind)):
        raise TypeError(
            f"a FlowMap calls its network as network(x, s, t), with a source and a target time, and {found} has no "
            "place for the second time: add one, make a student of a trained network (fm.student), or wrap a network "
            "of a diffusion model for its velocity alone (fm.teacher)"
        )


def expect_time(critic: nn.Module) -> None:
    """Refuse a critic whose `forward` does not take (x, t), such as a discriminator (x, label) of clean samples.

    A condition in the place of the time would be silently wrong.

    Args:
        critic: The module; its own class decides.

    Raises:
        TypeError: It is no module, or takes no time after x.
    """
    if not isinstance(critic, nn.Module):
        raise TypeError(f"a discriminator is a network (x, t) -> logits, got {shown(critic)}")
    if "forward" in vars(critic):
        return
    every = list(inspect.signature(type(critic).forward).parameters.values())[1:]
    placed = [one for one in every if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    several = any(one.kind is one.VAR_POSITIONAL for one in every)
    if not several and (len(placed) < 2 or placed[1].name in CONDITIONS):
        raise TypeError(
            "this method calls its discriminator as critic(x, t, **condition), and "
            f"{type(critic).__name__}.forward({', '.join(one.name for one in every)}) has no place for the time: add "
            "one, or make a critic of a network of two times, fm.networks.TimeCritic(network)"
        )


@functools.lru_cache(maxsize=256)
def _one_time(kind: Any) -> str | None:
    """The signature of a network without a second time; None if it has one, or if that cannot be seen.

    Networks of this library are not examined: a file can name them, and their sizes are checked first.
    """
    if kind.__module__.partition(".")[0] == "flowmaps":
        return None
    try:
        signature = inspect.signature(kind.forward)
    except (AttributeError, TypeError, ValueError):  # such as of torch.jit
        return None
    every = list(signature.parameters.values())[1:]
    if any(one.kind is one.VAR_POSITIONAL for one in every):
        return None
    placed = [one for one in every if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    if len(placed) >= 3 and placed[2].name not in CONDITIONS:
        return None
    return f"{kind.__name__}.forward({', '.join(one.name for one in every)})"
