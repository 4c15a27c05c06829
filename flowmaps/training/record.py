"""The record of a training run in the flow map: the times and conditions that its weights are trained for."""

from __future__ import annotations

from ..consistency import function_of
from ..data import Data
from ..data.transforms import GuidanceScales, LabelDropout, TextDropout, transforms_of
from ..draws import seeded
from ..flow_map import FlowMap
from ..method.method import Method
from ..times import of_one_frame
from ..trained import SCALES, TrainedSpec, trained_on

PROGRESS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Moments of training at which times are drawn to describe the trained jumps."""
DRAWS = 1024
"""Number of times of each term that are drawn."""


def trained_of(flow: FlowMap, method: Method, data: Data, labels: bool) -> TrainedSpec:
    """Describe the jumps and conditions that a method trains. Random numbers of torch go on as before.

    Args:
        flow: The flow map, for its conditions and its device.
        method: The method, with the times of its terms.
        data: The data set, with its conditions and transforms.
        labels: Whether class labels are passed to the network.

    Returns:
        The description.
    """
    terms = [(term, progress) for progress in PROGRESS for term in method.now(progress)]
    like = flow.like.new_empty(0, *data.shape)  # some times depend on the number of classes of a row
    with seeded(flow.like.device, 0):
        drawn = [of_one_frame(term.times)(DRAWS, progress, like) for term, progress in terms if not term.diagonal]
    changes = transforms_of(data)
    names = {*flow.condition, *data.given, *(("label",) if labels else ())} - set(method.hidden)
    names |= {name for one in changes if isinstance(one, GuidanceScales) for name in SCALES}
    dropped = {"label" for one in changes if isinstance(one, LabelDropout) and one.share > 0}
    dropped |= {name for one in changes if isinstance(one, TextDropout) and one.share > 0 for name in one.null}
    classes = {"classes": data.classes, "class_names": data.class_names} if labels else {}
    diagonal = any(term.diagonal for term, _ in terms)
    ancestral = any(getattr(function_of(term.rule), "ancestral", False) for term in method.terms)
    return trained_on(drawn, diagonal, names, dropped & names, data.shape, ancestral=ancestral, **classes)
