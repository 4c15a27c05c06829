"""Flow maps and methods with good defaults for a kind of data.

Options that are not for the network go to the `FlowMap`: `path`, and `only_source` or `only_target` for a partial map.
"""

from __future__ import annotations

import math
from typing import Any

from ..arguments import shown
from ..data import Data
from ..flow_map import FlowMap
from ..links import Mixed, softmax
from ..method.method import Method
from ..methods import dfm_psd, gfm_lsd, imf, lsd
from ..methods.discrete import PAIRS
from ..networks import MLP, GaussianEndpoint, GaussianInput, InBasis, TokenTransformer, UNet
from ..networks.unet import heads_for
from ..outputs import Bounded, Endpoint, GaussianSkip, Output, SeparableSkip, average_velocity
from ..path import Path, linear
from ..times.clocks import clocked_by_classes
from ..times.modifiers import mixture
from ..times.samplers import logit_normal_pairs, uniform_diagonal, uniform_triangle
from ..weight import learned
from .manifolds import METHOD as MANIFOLD_METHOD
from .manifolds import on_manifold
from .sequences import autoregressive
from .sizes import SMALL, are_large

METHOD, FEW_METHOD, TOKEN_METHOD = "imf", "lsd", "dfm_psd"
"""Names of the default methods."""
FEW = 3
"""Number of coordinates up to which data have the other method, and a network that sees sines and cosines of x."""
TOKEN_RATE, TOKEN_WIDTH = 3e-3, 128
"""Learning rate of a `TokenTransformer` up to this width; it falls like 1/width beyond it."""
WAVES = 32
"""Number of their directions."""
FITTED = 2 * 10**7
"""Largest number of values that a Gaussian of large images is fitted to."""


def flow_for(
    data: Data,
    *,
    classes: int | None = None,
    only_source: float | None = None,
    only_target: float | None = None,
    path: Path | None = None,
    **sizes: Any,
) -> FlowMap:
    """Make a flow map by `points`, `mixed`, `images`, `texts`, `on_manifold`, ... by the kind of data.

    Args:
        data: The data set.
        classes: Number of classes. None: the network takes no labels.
        only_source: Only source time of a partial map (`Row.only_source` of the landscape). None: any.
        only_target: Only target time of a partial map (`Row.only_target`). None: any.
        path: The path. None: the linear path, or the geodesic path of points on a manifold.
        **sizes: `width` and `depth` of the network.

    Returns:
        The flow map, with new weights.

    Raises:
        TypeError: These are no `Data`.
        ValueError: The values of the data are all equal, or a size is below 1.
    """
    if not isinstance(data, Data):
        raise TypeError(f"expected a Data, such as fm.data.as_data(x), got {shown(data)}")
    of_images = images if are_large(data) else small_images
    of_numbers = on_manifold if data.manifold is not None else points if data.columns is None else mixed
    of_numbers = autoregressive if data.signal is not None else of_numbers
    make = {"images": of_images, "tokens": texts}.get(data.kind, of_numbers)
    given: dict[str, Any] = {"only_source": only_source, "only_target": only_target, "path": path}
    return make(data, classes=classes, **sizes, **{name: value for name, value in given.items() if value is not None})


def method_name(data: Data) -> str:
    """The name of the method that `flowmaps train` takes if none is given: `method_for` has its settings.

    Args:
        data: The data set.

    Returns:
        "dfm_psd" for tokens, "gfm_lsd" on manifolds, "lsd" for at most three coordinates, else "imf".

    Raises:
        TypeError: These are no `Data`.
    """
    if not isinstance(data, Data):
        raise TypeError(f"expected a Data, such as fm.data.as_data(x), got {shown(data)}")
    if data.kind == "tokens":
        return TOKEN_METHOD
    if data.manifold is not None:
        return MANIFOLD_METHOD
    return FEW_METHOD if math.prod(data.shape) <= FEW else METHOD


def method_for(data: Data, **changed: Any) -> Method:
    """Make the method that `flowmaps train` takes if none is given.

    For tokens it is the semigroup form of discrete flow maps, which has no pole and needs no derivative, with its times
    on the clock of Flow Language Models (`docs/text.md`). On manifolds it is Lagrangian self-distillation with squared
    lengths, because adaptive weights bias it. For at most three coordinates it is Lagrangian self-distillation, which
    learns steep maps of the plane fastest. For everything else it is improved MeanFlow with a learned weight of the
    interval, half of the times logit-normal and half uniform up to s = 1, and 75% of the rows on the diagonal. The
    learned weight evens out the intervals without the bias of an adaptive weight, whose minimum is no conditional mean.
    `docs/one_step.md` compares the methods, `docs/ablation.md` the settings, and `docs/sequences.md` heads of sound.

    Args:
        data: The data set.
        **changed: Arguments of the method that replace these settings.

    Returns:
        The method.

    Raises:
        TypeError: These are no `Data`.
    """
    if method_name(data) == TOKEN_METHOD:
        on_clock = {
            "times": clocked_by_classes(PAIRS),
            "diagonal_times": clocked_by_classes(uniform_diagonal()),
        }
        return dfm_psd(**on_clock | changed)
    if method_name(data) == MANIFOLD_METHOD:
        return gfm_lsd(**changed)
    if method_name(data) == FEW_METHOD:
        return lsd(**changed)
    settings: dict[str, Any] = {"diagonal": 0.75, "times": mixture(0.5, logit_normal_pairs(), uniform_triangle(1e-3))}
    if "power" not in changed:
        settings["weight"] = learned()
    return imf(**settings | changed)


def points(
    data: Data, width: int = 128, depth: int = 4, *, embedding: int = 32, classes: int | None = None, **limits: Any
) -> FlowMap:
    """Make a flow map for points and vectors: a residual MLP.

    For at most three coordinates it sees sines and cosines of x, and predicts the average velocity. For more it works
    in the principal axes of the data, sees x at their scale, and predicts the residual to the average velocity of a
    Gaussian; for more than a thousand it is a plain MLP.

    Args:
        data: The data set.
        width: Width of the network.
        depth: Number of residual blocks.
        embedding: Size of the time embedding.
        classes: Number of classes. None: the network takes no labels.
        **limits: Further arguments of `FlowMap`.

    Returns:
        The flow map, with new weights.
    """
    sizes: dict[str, Any] = {"width": width, "depth": depth, "embedding": embedding, "classes": classes}
    if FEW < math.prod(data.shape) <= SMALL:
        network, skip = in_principal_axes(data, 1e-3 * data.std**2, limits.get("path", linear), **sizes)
        return FlowMap(network, skip, **limits)
    waves = WAVES if math.prod(data.shape) <= FEW else 0
    return FlowMap(MLP(data.shape, data_std=data.std, waves=waves, **sizes), **limits)


def mixed(
    data: Data, width: int = 128, depth: int = 4, *, embedding: int = 32, classes: int | None = None, **limits: Any
) -> FlowMap:
    """Make a flow map for rows of numbers and categories: a residual MLP that predicts the denoised field.

    The field is a distribution over the categories of each column, `links.Mixed`.

    Args:
        data: The data set, with `columns`.
        width: Width of the network.
        depth: Number of residual blocks.
        embedding: Size of the time embedding.
        classes: Number of classes. None: the network takes no labels.
        **limits: Further arguments of `FlowMap`.

    Returns:
        The flow map, with new weights.
    """
    network = MLP(data.shape, width=width, depth=depth, embedding=embedding, classes=classes)
    return FlowMap(network, output_for(data), **limits)


def output_for(data: Data) -> Output:
    """The prediction of a network that has no other: probabilities of tokens and categories, else the velocity.

    Args:
        data: The data set.

    Returns:
        An `Endpoint` with `links.softmax` for tokens and with `links.Mixed` for rows with categories;
        `outputs.average_velocity` for other data.
    """
    if data.kind == "tokens":
        return Endpoint(link=softmax)
    if data.columns is not None:
        return Endpoint(link=Mixed(len(data.columns.numbers), data.columns.sizes))
    return average_velocity


def small_images(
    data: Data, width: int = 256, depth: int = 4, *, embedding: int = 32, classes: int | None = None, **limits: Any
) -> FlowMap:
    """Make a flow map for images of at most a thousand values.

    The network is an MLP in the principal axes of the data, and sees x at the scale of the data. It predicts the
    residual to the average velocity of a Gaussian, bounded to the range of images.
    `benchmarks/results/digits/parts.md` has the effect of each part on the digits.

    Args:
        data: The data set.
        width: Width of the network.
        depth: Number of residual blocks.
        embedding: Size of the time embedding.
        classes: Number of classes. None: the network takes no labels.
        **limits: Further arguments of `FlowMap`.

    Returns:
        The flow map, with new weights.
    """
    sizes: dict[str, Any] = {"width": width, "depth": depth, "embedding": embedding, "classes": classes}
    network, skip = in_principal_axes(data, 0.01, limits.get("path", linear), **sizes)
    return FlowMap(network, Bounded(skip), **limits)


def in_principal_axes(data: Data, floor: float, path: Path, **sizes: Any) -> tuple[InBasis, GaussianSkip]:
    """Make an MLP in the principal axes of data that sees x at their scale, and the output with their Gaussian.

    Args:
        data: The data set.
        floor: Smallest variance of the Gaussian.
        path: The path.
        **sizes: Arguments of the MLP.

    Returns:
        The network, and the output.
    """
    skip = GaussianSkip.fit(data.draw(10_000, seed=0).x0, floor=floor)
    mean = (skip.mean.flatten() @ skip.basis).reshape(data.shape)
    scaled = GaussianInput(MLP(data.shape, **sizes), mean, skip.variances.reshape(data.shape), path)
    return InBasis(scaled, skip.basis), skip


def images(data: Data, width: int = 64, depth: int = 2, *, classes: int | None = None, **limits: Any) -> FlowMap:
    """Make a flow map for larger images: a U-Net.

    It sees x at the scale of the data, and predicts the residual to the average velocity of a Gaussian with separable
    axes, bounded to the range of images. It has three levels, or fewer if the sides cannot be halved twice.

    Args:
        data: The data set.
        width: Number of channels at the highest resolution.
        depth: Number of blocks for each resolution.
        classes: Number of classes. None: the network takes no labels.
        **limits: Further arguments of `FlowMap`.

    Returns:
        The flow map, with new weights.
    """
    channels, height, side = data.shape
    network = UNet((channels, height, side), width, levels_for((height, side)), depth, classes=classes)
    rows = max(100, min(10_000, FITTED // math.prod(data.shape)))
    skip = SeparableSkip.fit(data.draw(rows, seed=0).x0, floor=1e-3)
    return FlowMap(GaussianEndpoint(network, skip, limits.get("path", linear)), Bounded(skip), **limits)


def texts(
    data: Data,
    width: int = 128,
    depth: int = 4,
    *,
    classes: int | None = None,
    **limits: Any,
) -> FlowMap:
    """Make a flow map for rows of tokens: a transformer whose logits become probabilities by a softmax.

    Args:
        data: The data set, of kind "tokens".
        width: Width of a position.
        depth: Number of blocks.
        classes: Number of classes. None: the network takes no labels.
        **limits: Further arguments of `FlowMap`.

    Returns:
        The flow map, with new weights.
    """
    length, vocabulary = data.shape
    network = TokenTransformer(vocabulary, length, width, depth, heads_for(width, 32), classes=classes)
    return FlowMap(network, Endpoint(link=softmax), **limits)


def rate_for(flow: FlowMap) -> float | None:
    """The learning rate that `flowmaps train` takes for a new network if none is given.

    Args:
        flow: The flow map.

    Returns:
        3e-3 for transformers over tokens of width up to 128, and less in proportion for wider ones. None: the usual
        rate. On 27 characters of English (windows of 32, width 128, 100 s of one core) 3e-3 left a total variation of
        2-grams of 0.28 in one jump, and 1e-3 one of 0.34.
    """
    if not isinstance(flow.network, TokenTransformer):
        return None
    return TOKEN_RATE * min(1.0, TOKEN_WIDTH / flow.network.input.out_features)


def levels_for(sides: tuple[int, int]) -> tuple[int, ...]:
    """The channels of the levels of a U-Net over its width: (1, 2, 2), or fewer if the sides cannot be halved twice."""
    halvings = next(k for k in (2, 1, 0) if all(side % 2**k == 0 for side in sides))
    return (1, 2, 2)[: halvings + 1]


def heads_for_width(width: int) -> int:
    """The attention heads of a DiT of this width: 6 as usual, or heads of at most 64 channels if 6 do not divide it."""
    return 6 if width % 6 == 0 else heads_for(width, 64)


def patch_for(sides: tuple[int, int]) -> int:
    """The side of a patch of a DiT: 2, or the next prime number that divides both sides of an image; 1 if none does."""
    return next((patch for patch in (2, 3, 5, 7) if all(side % patch == 0 for side in sides)), 1)
