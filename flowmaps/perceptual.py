"""Distances between images as a network sees them, in the place of a difference of pixels.

A distance is a function compare(a, b) -> (B, 1) on images (B, C, H, W) in [-1, 1]: at least 0, zero for equal images,
differentiable in both. Consistency models on pixels are trained with them (Song et al. 2023, arXiv 2303.01469), as
compare(F(x_s, s, 0), sg[F(x_l, l, 0)]). They judge what the weights of their network have learned to see, which also
makes them lenient to what that network misses.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Net = Literal["vgg", "alex", "squeeze"]
Compare = Callable[[Tensor, Tensor], Tensor]


def features_distance(extractor: Callable[[Tensor], Any], eps: float = 1e-8) -> Compare:
    """sum over layers of the mean over places of |n(a) - n(b)|^2,  n = f / sqrt(|f|^2 + eps) over the channels.

    `extractor` gives the features f of images: one tensor (B, C, H, W), or several of any sizes. This is LPIPS (Zhang
    et al. 2018, arXiv 1801.03924) without its learned weights. A module is copied, frozen and put in evaluation mode,
    and runs in the dtype of its weights on the device of the images. Raises ValueError for what are no images.
    """
    frozen = _frozen(extractor) if isinstance(extractor, nn.Module) else extractor

    def compare(a: Tensor, b: Tensor) -> Tensor:
        expect_images(a, b)
        pairs = zip(_layers(_run(frozen, a)), _layers(_run(frozen, b)), strict=True)
        distances = [(_unit(f, eps) - _unit(g, eps)).square().sum(1).mean((1, 2)) for f, g in pairs]
        return torch.stack(distances).sum(0)[:, None].to(a.dtype)

    return compare


def lpips(net: Net = "vgg", size: int | None = 224) -> Compare:
    """LPIPS (Zhang et al. 2018, arXiv 1801.03924) with its learned weights, from torchmetrics: `net` is vgg, alex or
    squeeze.

    Images are brought to `size` x `size` pixels (None: left as they are, which the network must be large enough for),
    as consistency models do below 256 pixels; grey ones are repeated in three channels. The weights of the network are
    downloaded on first use, to torch.hub's folder.

    Raises ImportError where torchmetrics or torchvision are missing, RuntimeError where the weights cannot be fetched,
    ValueError for another `net` and for images that have neither one nor three channels.
    """
    network = _lpips_network(net)

    def compare(a: Tensor, b: Tensor) -> Tensor:
        expect_images(a, b)
        return _run(network, *(_resized(_in_colour(x), size) for x in (a, b))).reshape(-1, 1).to(a.dtype)

    return compare


def expect_images(a: Tensor, b: Tensor) -> None:
    """ValueError unless a and b are images (B, C, H, W) of one shape."""
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
        raise ImportError(
            f"lpips needs torchmetrics and torchvision: pip install flowmaps[perceptual] ({error})"
        ) from None
    try:
        # the metric itself refuses images outside [-1, 1], which a map in training makes
        return _frozen(LearnedPerceptualImagePatchSimilarity(net_type=net).net)
    except OSError as error:
        folder = f"{torch.hub.get_dir()}/checkpoints"
        raise RuntimeError(
            f"the weights of {net} could not be downloaded ({error}); put the file that torchvision names into {folder}"
        ) from error


def _frozen(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).eval().requires_grad_(False)


def _run(network: Callable[..., Any], *images: Tensor) -> Any:
    """The network on the images, without autocast and in the dtype of its weights, which go where the images are."""
    if not isinstance(network, nn.Module):
        return network(*images)
    weight = next(network.to(images[0].device).parameters(), images[0])
    with torch.autocast(weight.device.type, enabled=False):
        return network(*(x.to(weight.dtype) for x in images))


def _layers(features: Any) -> Sequence[Tensor]:
    layers = [features] if isinstance(features, Tensor) else list(features)
    if not layers or any(f.ndim != 4 for f in layers):
        raise ValueError(
            f"an extractor gives features (B, C, H, W), one or several, got shapes {[tuple(f.shape) for f in layers]}"
        )
    return layers


def _unit(f: Tensor, eps: float) -> Tensor:
    return f * (f.square().sum(1, keepdim=True) + eps).rsqrt()


def _in_colour(x: Tensor) -> Tensor:
    if x.shape[1] not in (1, 3):
        raise ValueError(f"lpips compares grey images or colour images, got {x.shape[1]} channels")
    return x.expand(-1, 3, -1, -1)


def _resized(x: Tensor, size: int | None) -> Tensor:
    if size is None or x.shape[2:] == (size, size):
        return x
    return F.interpolate(x, (size, size), mode="bilinear", align_corners=False, antialias=min(x.shape[2:]) > size)
