"""The second engine, `torch.func.jvp`, in the place of dual numbers for a whole function that writes in place."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode

from .dual import Dual, InPlace

WRONG = ("layer_norm", "batch_norm", "instance_norm", "linalg", "solve", "inverse")
"""Parts of the names of operations through whose `torch.func.jvp` torch 2.13 gives wrong gradients."""


DETACHING = (Tensor.detach, torch.detach, Tensor.numpy, Tensor.data.__get__)  # type: ignore[attr-defined]
"""Operations that return the value of a state without its derivative."""
LOST = (
    "the derivative of this function in its state is lost on the way: it detaches the state or a result of it, as the "
    "gradient of a reward, a frozen teacher and inference mode do. For a velocity take "
    "fm.likelihood.ode(fm.likelihood.differences()), which needs no derivative"
)


class RefuseWrong(TorchFunctionMode):
    """Refuse the operations through whose derivative torch gives wrong gradients.

    Args:
        error: The error of the dual numbers, for the message.
    """

    def __init__(self, error: InPlace) -> None:
        super().__init__()
        self.error = error

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call an operation, unless it is one of these."""
        name = f"{getattr(func, '__module__', '')}.{getattr(func, '__name__', '')}"
        if any(part in name for part in WRONG):
            raise InPlace(
                f"{self.error}, and torch's own forward mode has wrong gradients through {func.__name__}: write the "
                "network without operations in place, or take derivative=fm.derivative.finite_difference() or a "
                "method that stops its derivative (derivative=fm.derivative.detached)"
            )
        return func(*args, **(kwargs or {}))


class RefuseDetached(TorchFunctionMode):
    """Refuse the operations that lose a derivative without a word, such as `detach`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call an operation, unless it loses a derivative."""
        if func in DETACHING and args and moves(args[0]):
            raise TypeError(LOST)
        return func(*args, **(kwargs or {}))


def moves(x: Any) -> bool:
    """Whether a value has a derivative, of dual numbers or of `torch.func`."""
    return isinstance(x, Dual) or (isinstance(x, Tensor) and forward_ad.unpack_dual(x).tangent is not None)


@functools.cache
def warn_of(reason: str) -> None:
    """Warn once that a function is differentiated by `torch.func.jvp`.

    Args:
        reason: The message of the dual numbers.
    """
    warnings.warn(
        f"{reason}; torch.func.jvp (fm.derivative.functorch) is used for the whole network, which takes more time and "
        "memory",
        stacklevel=2,
    )


def random_state(device: torch.device) -> tuple[Tensor, ...] | None:
    """Return the states of the random generators, for a second attempt with the same numbers.

    Args:
        device: Device of the generator beside the processor's.

    Returns:
        The states. None before the first warning of `warn_of`: networks without operations in place pay nothing.
    """
    if not warn_of.cache_info().currsize:
        return None
    if device.type == "cpu":
        return (torch.get_rng_state(),)
    return torch.get_rng_state(), torch.get_device_module(device).get_rng_state(device)


def set_random_state(device: torch.device, state: tuple[Tensor, ...] | None) -> None:
    """Set the states returned by `random_state`."""
    if state is not None:
        torch.set_rng_state(state[0])
        for other in state[1:]:
            torch.get_device_module(device).set_rng_state(other, device)
