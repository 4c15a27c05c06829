"""Perceptual distances between images, computed on the features of a network in place of pixels.

A distance is a function compare(a, b) -> (B, 1) on images (B, C, H, W) in [-1, 1]: non-negative, zero for equal images,
differentiable in both. Consistency models on pixels are trained with them (Song et al. 2023, arXiv 2303.01469), as
compare(F(x_s, s, 0), sg[F(x_l, l, 0)]). A difference that does not change the features counts as none.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .arguments import install, shown

Net = Literal["vgg", "alex", "squeeze"]
Compare = Callable[[Tensor, Tensor], Tensor]


def lpips(net: Net = "vgg", size: int | None = 224) -> Compare:
    """LPIPS with its learned weights, from torchmetrics (Zhang et al. 2018, arXiv 1801.03924).

    Args:
        net: The network: vgg, alex or squeeze. Its weights are downloaded on first use, to torch.hub's folder, by
            torchvision from its own address. They are pickles, which torch reads with a checksum in the name of the
            file.
        size: Images are resized to `size` x `size` pixels, as consistency models do below 256 pixels. None: they keep
            their size, which must be large enough for the network.

    Returns:
        The distance. Grey images are repeated in three channels. It raises ValueError for images that have neither one
        nor three channels.

    Raises:
        ImportError: torchmetrics or torchvision is missing.
        RuntimeError: The weights cannot be downloaded.
        ValueError: There is no such network.
    """
    network = _lpips_network(net)

    def compare(a: Tensor, b: Tensor) -> Tensor:
        expect_images(a, b)
        return _run(network, *(_resized(_in_colour(x), size) for x in (a, b))).reshape(-1, 1).to(a.dtype)

    return compare


def features(network: nn.Module, size: int | None = 224) -> Compare:
    """Mean squared difference of the features of a network, such as a ConvNeXt.

    Args:
        network: The network, images (B, C, H, W) in [-1, 1] -> features (B, ...). It is copied, with constant weights.
        size: Images are resized to `size` x `size` pixels. None: they keep their size.

    Returns:
        The distance.

    Raises:
        TypeError: The network is no module.
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"a distance of features needs a network, got {shown(network)}")
    frozen = _frozen(network)

    def compare(a: Tensor, b: Tensor) -> Tensor:
        expect_images(a, b)
        seen = [_run(frozen, _resized(x, size)).flatten(1) for x in (a, b)]
        return (seen[0] - seen[1]).square().mean(1, keepdim=True).to(a.dtype)

    return compare


def extractor(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """The features of a network with constant weights, differentiable in its input.

    Args:
        network: The network, rows (B, ...) -> features (B, ...). It is copied, and follows the device of the rows.

    Returns:
        The function.
    """
    frozen = _frozen(network)
    return lambda x: _run(frozen, x).to(x.dtype)


def expect_images(a: Tensor, b: Tensor) -> None:
    """Check that a and b are batches of images of one shape.

    Args:
        a: Images, (B, C, H, W).
        b: Images, likewise.

    Raises:
        ValueError: They are not.
    """
    if a.ndim != 4 or a.shape != b.shape:
        raise ValueError(
            "a perceptual distance compares two batches of images of one shape (B, C, H, W), got "
            f"{tuple(a.shape)} and {tuple(b.shape)}"
        )


def _lpips_network(net: Net) -> nn.Module:
    if net not in ("vgg", "alex", "squeeze"):
        raise ValueError(f"expected the network vgg, alex or squeeze, got {net!r}")
    try:
        import torchvision  # noqa: F401  torchmetrics needs it for the network
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
    except ImportError as error:
        raise ImportError(f"lpips needs torchmetrics and torchvision: {install('perceptual')} ({error})") from None
    try:
        # the network alone: the metric refuses images outside [-1, 1], which a map in training makes
        return _frozen(LearnedPerceptualImagePatchSimilarity(net_type=net).net)
    except OSError as error:
        folder = f"{torch.hub.get_dir()}/checkpoints"
        raise RuntimeError(
            f"the weights of {net} could not be downloaded ({error}); put the file that torchvision names into {folder}"
        ) from error


def _frozen(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).eval().requires_grad_(False)


def _run(network: nn.Module, *images: Tensor) -> Tensor:
    """Run the network without autocast, in the dtype of its weights and on the device of the images."""
    weight = next(network.to(images[0].device).parameters(), images[0])
    with torch.autocast(weight.device.type, enabled=False):
        return network(*(x.to(weight.dtype) for x in images))


def _in_colour(x: Tensor) -> Tensor:
    if x.shape[1] not in (1, 3):
        raise ValueError(f"lpips compares grey images or colour images, got {x.shape[1]} channels")
    return x.expand(-1, 3, -1, -1)


def _resized(x: Tensor, size: int | None) -> Tensor:
    if size is None or x.shape[2:] == (size, size):
        return x
    return F.interpolate(x, (size, size), mode="bilinear", align_corners=False, antialias=min(x.shape[2:]) > size)
