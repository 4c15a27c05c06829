"""Measurements of images for steered sampling: a picture with a hole, a blurred or a small one, as a likelihood."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..arguments import positive
from ..data import Data
from ..steering import rewards
from .picture_input import Image, Images, size_of
from .text_conditioning import has_latents
from .trained_run import Say

STD = 0.1
"""Usual noise of a measurement, for values in [-1, 1]."""


@dataclass(frozen=True)
class Measurement:
    """A measurement of an image.

    Attributes:
        likelihood: Its likelihood, with y and the standard deviation of its noise.
        picture: The measurement as an image (C, h, w) in about [-1, 1]; NaN where nothing was measured.
        truth: The image (C, H, W) that was measured; None if it is not known.
        what: The measurement in words.
    """

    likelihood: rewards.Likelihood
    picture: Tensor
    truth: Tensor | None
    what: str


def inpainting(mask: Image, image: Image, images: Images, std: float = STD) -> Measurement:
    """The measurement of an image with a hole.

    Args:
        mask: Picture of the size of the data: white where the image is filled in, black where it is known; or a tensor
            (H, W), True or 1 in the hole.
        image: The image with the hole, whose values there do not count; or held-out:K.
        images: The images of the run.
        std: Standard deviation of the noise.

    Returns:
        The measurement.

    Raises:
        ValueError: The mask has another size, grey pixels, or no or only white ones; or the image does not fit.
    """
    hole = images.hole(mask)
    operator = rewards.mask(~hole)
    x, own = images.read(image)
    y, truth = _measured(operator, x), None
    if not own:
        y, truth = images.noisy(y, std), x
    picture = torch.full(x.shape, torch.nan)
    picture[:, ~hole] = y
    what = f"{int((~hole).sum())} of {hole.numel()} pixels are known (black in the mask), {int(hole.sum())} filled in"
    return Measurement(rewards.Likelihood(operator, y, std), picture, truth, what)


def deblurring(sigma: float, image: Image, images: Images, std: float = STD) -> Measurement:
    """The measurement of a blurred image.

    Args:
        sigma: Standard deviation of the Gaussian blur in pixels.
        image: The blurred image; or held-out:K, which is blurred.
        images: The images of the run.
        std: Standard deviation of the noise.

    Returns:
        The measurement.

    Raises:
        ValueError: Sigma is not positive, or too large for the images; or the image does not fit.
    """
    operator = rewards.blur(sigma)
    x, own = images.read(image)
    y, truth = (x, None) if own else (images.noisy(_measured(operator, x), std), x)
    return Measurement(rewards.Likelihood(operator, y, std), y, truth, f"blurred, sigma {sigma:g} pixels")


def super_resolution(factor: int, image: Image, images: Images, std: float = STD) -> Measurement:
    """The measurement of a small image.

    Args:
        factor: Side of the squares of pixels that are averaged.
        image: The small image, or one of the size of the data, which is made small; or held-out:K, which is too.
        images: The images of the run.
        std: Standard deviation of the noise.

    Returns:
        The measurement.

    Raises:
        ValueError: The factor does not divide the sides of the images, or the image does not fit.
    """
    operator = rewards.downsample(factor)
    operator(torch.zeros(1, *images.shape))  # refuses a factor that does not divide the sides
    height, width = (side // factor for side in images.shape[1:])
    x, own = images.read(image, (height, width))
    is_small = own and tuple(x.shape[1:]) == (height, width)
    if own and not is_small:
        images.say(f"The picture has the size of the data, {size_of(x.shape)}, and is made small: {height} x {width}")
    y, truth = (x, None) if is_small else (images.noisy(_measured(operator, x), std), x)
    what = f"{height} x {width} pixels of {size_of(images.shape)}"
    return Measurement(rewards.Likelihood(operator, y, std), y, truth, what)


def _measured(operator: rewards.Operator, x: Tensor) -> Tensor:
    """The measurement of one image without noise."""
    return operator(x[None])[0]


def measurement_of(
    run: Path, config: Mapping[str, Any], data: Callable[[], Data], given: Mapping[str, Any], std: float | None,
    seed: int, say: Say,
) -> Measurement:  # fmt: skip
    """The measurement that a command names.

    Args:
        run: The run folder, for messages.
        config: The content of its config.json.
        data: Function that loads the data of the run.
        given: One of "inpaint", "deblur" and "downsample", with its two values.
        std: Standard deviation of the noise. None: STD.
        seed: Seed of the noise of a clean image.
        say: Receives a line about the use of a picture.

    Returns:
        The measurement.

    Raises:
        TypeError: There are not two values.
        ValueError: The run has no images, or the measurement does not fit them.
    """
    about = config["data"]
    [(name, pair)] = given.items()
    if about["kind"] != "images":
        got = "latents of a VAE" if has_latents(config) else f"{about['kind']} of shape {tuple(about['shape'])}"
        advice = ": in Python, fm.rewards.decoded measures decoded images" if has_latents(config) else ""
        advice = ": `infill` fills gaps in texts" if about["kind"] == "tokens" else advice
        raise ValueError(f"`{name}` measures images, and samples of {run} are {got}{advice}")
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise TypeError(f"`{name}` has two values, of the measurement and the image, got {pair!r}")
    noise = STD if std is None else std
    positive(noise=noise)
    make: dict[str, Any] = {"inpaint": inpainting, "deblur": deblurring, "downsample": super_resolution}
    return make[name](*pair, Images(about, data, seed, say), noise)
