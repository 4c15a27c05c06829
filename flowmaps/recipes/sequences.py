"""Flow maps for sequences of frames: a head on a causal transformer."""

from __future__ import annotations

from typing import Any

from ..data import Data
from ..flow_map import FlowMap
from ..method.method import Method
from ..networks import CausalTransformer, Head, WithBackbone
from ..networks.with_backbone import has_backbone
from ..sequences import TeacherForced, teacher_forced
from ..sequences.autoregressive import END

REPEATS, PAST_NOISE = 4, 0.2
"""Noise draws of a frame, and standard deviation of the noise on past frames."""
LONGEST = 256
"""Largest number of past frames that a block of the backbone sees."""


def autoregressive(
    data: Data, width: int = 256, depth: int = 4, *, classes: int | None = None, **limits: Any
) -> FlowMap:
    """Make a flow map for sequences (T, C): a head (`networks.Head`) on a causal transformer.

    Args:
        data: The data set; rows are sequences of frames.
        width: Width of the backbone and of the head.
        depth: Number of blocks of the backbone; the head has three.
        classes: Number of classes. None: the backbone takes no labels.
        **limits: Further arguments of `FlowMap`.

    Returns:
        The flow map of frames, with new weights. It predicts ends if the sequences have some.

    Raises:
        ValueError: The rows are no sequences.
    """
    if len(data.shape) != 2:
        raise ValueError(
            f"a head on a backbone needs sequences (T, C), and rows of {data.name} have shape {data.shape}"
        )
    length, channels = data.shape
    head = Head(channels, width, width)
    heads = next(heads for heads in (4, 2, 1) if width % (2 * heads) == 0)
    backbone = CausalTransformer(channels, width, depth, heads, window=min(length, LONGEST), classes=classes)
    return FlowMap(WithBackbone(head, backbone, ends="valid" in data.given), **limits)


def for_sequences(method: Method, flow: FlowMap) -> Method:
    """A method as a method of sequences, if the flow map has a backbone and the method is none; else unchanged."""
    network: Any = flow.network
    if not has_backbone(network) or isinstance(method, TeacherForced):
        return method
    return teacher_forced(method, REPEATS, PAST_NOISE, END if network.ends else 0.0)
