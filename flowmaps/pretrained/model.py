"""Pretrained networks as teachers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..arguments import shown
from ..path import Path, Time, linear, velocity
from ..path.time_shapes import expect_frames, frame_axis
from ..serialise import describable
from .reading import Affine, Predicts, Reading


@describable
class Pretrained(nn.Module):
    """Pretrained network as a teacher, with the `Reading` that converts its predictions to velocities.

    Args:
        network: Called as network(x', time, **condition). It is frozen in place and stays in evaluation mode.
        reading: The conversion.

    It is a teacher: for teacher= of a method, for velocity.fixed, and for `sample` with steps.euler.
    """

    def __init__(self, network: nn.Module, reading: Reading) -> None:
        super().__init__()
        if not isinstance(network, nn.Module) or not isinstance(reading, Reading):
            raise TypeError(f"expected a module and its Reading, got {shown(network)} and {shown(reading)}")
        self.network = network.requires_grad_(False)
        self.reading = reading
        self.condition: dict[str, Any] = {}
        self.eval()

    @property
    def path(self) -> Path:
        """Path of the velocity."""
        return self.reading.path

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """Velocity v(x, t) on the path.

        Args:
            x: State, (B, ...).
            t: Time: a number, 0-d, (B,) or (B, 1, ..., 1), or per frame if the network has this `frame_axis`.

        Returns:
            The velocity, of x's shape.

        Raises:
            ValueError: The network's prediction does not have x's shape.
        """
        return self.reading.velocity(self._predict(x, t), x, t)

    def denoise(self, x: Tensor, t: Time) -> Tensor:
        """Denoised state E[x_0 | x_t = x], of x's shape; arguments and errors as for `velocity`."""
        return self.reading.denoise(self._predict(x, t), x, t)

    def given(self, **condition: Any) -> Pretrained:
        """Bind a condition, which is passed to the network by name. Returns another teacher with the same network."""
        bound = Pretrained(self.network, self.reading)
        bound.condition = {**self.condition, **condition}
        return bound

    def train(self, mode: bool = True) -> Pretrained:
        """Stay in evaluation mode; `mode` is ignored."""
        return super().train(False)

    def _predict(self, x: Tensor, t: Time) -> Tensor:
        """The network's prediction for a state on the path. Raises ValueError if its shape is not x's."""
        if (axis := frame_axis(t, x)) is not None:
            expect_frames(self.network, axis, x)
        state, time = self.reading.asked(x, t)
        value = self.network(state, time, **self.condition)
        if getattr(value, "shape", None) != x.shape:
            got = tuple(value.shape) if hasattr(value, "shape") else f"a {type(value).__name__}"
            raise ValueError(
                f"a pretrained network must return a tensor of the shape of x, {tuple(x.shape)}, but it returned "
                f"{got}: return the prediction alone, without a learned variance or a wrapper"
            )
        return value


class _Called(nn.Module):
    """Module that calls a function."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, time: Tensor, **condition: Any) -> Tensor:
        """Call the function."""
        return self.function(x, time, **condition)


def teacher(
    predict: Callable[..., Tensor],
    predicts: Predicts = velocity,
    schedule: Path = linear,
    *,
    path: Path = linear,
    known: tuple[float, float] = (0.0, 1.0),
    time: Callable[[Tensor], Tensor] = Affine(),  # noqa: B008
) -> Pretrained:
    """Make a teacher of any pretrained model, with velocities on a path of this library.

    Args:
        predict: A module or a function, called as predict(x, time, **condition) -> tensor of x's shape. A module is
            frozen in place.
        predicts: Kind of prediction: path.velocity, path.noise, path.data, path.v_prediction, path.score, or a function
            (path, u) -> (a, b) for the prediction a x_0 + b eps.
        schedule: Path that the model was trained on, with time u.
        path: Path of the teacher's velocity.
        known: Interval of the times u that the model was trained on.
        time: Function from u in [0, 1] to the model's clock.

    Returns:
        The teacher.

    Raises:
        TypeError: `predict` cannot be called, a path or a clock is of another kind, or `predicts` returns no linear
            form.
        ValueError: `known` is no interval of [0, 1], or the prediction does not determine the data; see `Reading`.

    Examples:
        DDPM's noise prediction: `teacher(net, path.noise, path.Discrete(alphas_cumprod), known=(1/1000, 1),
        time=Affine(1000, -1))`.

        A flow model with t = 1 at the data: `teacher(lambda x, t: -net(x, 1 - t))`.

        A denoiser in EDM's convention: `teacher(lambda x, sigma: net(x, sigma), path.data, path.VarianceExploding(80),
        known=(0.002/80, 1), time=Affine(80))`.
    """
    if not callable(predict) or isinstance(predict, type):
        raise TypeError(f"a teacher is made of a module or a function (x, time) -> prediction, got {shown(predict)}")
    network = predict if isinstance(predict, nn.Module) else _Called(predict)
    return Pretrained(network, Reading(predicts, schedule, path, known, time))
