"""`explain`: one method, from its row of the landscape and from its terms."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..exact import Categorical, Gaussian
from ..figures.anatomy import MOMENTS, Part, Stage, anatomy
from ..flow_map import FlowMap
from ..links import Hull
from ..method.method import Method
from ..methods import Row
from ..networks import MLP
from ..outputs import Endpoint, MixturePolicy
from ..recipes.rows import MethodLike, row_of
from ..velocity import Auxiliary, Averaged, Discriminator, Phased
from ..weight import Learned
from .build import check_method_arguments, for_row

COVARIANCE = [[1.0, 0.6], [0.6, 0.5]]
WORDS = [[0.3, 0.0, 0.1], [0.0, 0.3, 0.0], [0.0, 0.0, 0.3]]
"""Chances of words of two letters, for methods of discrete data."""


@dataclass(frozen=True)
class Explanation:
    """A method with its anatomy.

    Attributes:
        row: Its row of the landscape.
        method: The method.
        stages: Its stages, with the times, weights and shares of their terms.
    """

    row: Row
    method: Method
    stages: list[Stage]

    @property
    def needs(self) -> list[str]:
        """The needs of the method beside the flow map and its data, in words."""
        found = ["a trained model as its teacher"] if self.row.needs_teacher else []
        found += ["no data"] if self.method.data_free else []
        return found + list(dict.fromkeys(filter(None, map(_companion, self.method.modules()))))

    @property
    def sampling(self) -> str:
        """The steps that are valid for the learned map, in words."""
        row = self.row
        if row.sampled:
            return row.sampled
        if row.rule == "diffusion":
            return "steps of the ODE: it learns only the velocity"
        if row.only_source is not None:
            return f"one jump from s = {row.only_source:g}: a partial map that knows no other source"
        if row.only_target is not None:
            return (
                f"one jump to t = {row.only_target:g}, or several that add noise again (steps.restart): a partial map"
            )
        made = f"; made for {row.few_step} jumps" if row.few_step > 1 else ""
        return f"any number of jumps, or steps of its ODE{made}"

    def as_dict(self) -> dict[str, Any]:
        """The row, the needs, and the terms with the numbers of their drawings, for JSON."""
        about = {**self.row.as_dict(), "bibtex": self.row.bibtex, "needs": self.needs, "sampling": self.sampling}
        return {
            **about,
            "data_free": self.method.data_free,
            "stages": [
                {"name": stage.name, "share": stage.share, "terms": [_term(part) for part in stage.parts]}
                for stage in self.stages
            ],
        }

    def draw(self, path: str | Path) -> None:
        """Draw the method into a .png, .svg or .pdf file."""
        from ..figures.portrait import portrait

        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        portrait(self.stages, path, title=self.row.name, subtitle=self.row.equation)


def explain(method: MethodLike, *, method_args: Mapping[str, Any] | None = None) -> Explanation:
    """Take a method apart, as `flowmaps explain` does: times, weights and shares of its terms, its needs and its cost.

    A Gaussian in the plane stands in for the data and the teacher, or words of two letters for discrete data.

    Args:
        method: Name or function of a method, or its row.
        method_args: Keyword arguments of the method's function.

    Returns:
        The explanation; `as_dict()` for JSON, `draw(path)` for a picture.

    Raises:
        ValueError: The method or one of its arguments is unknown.
    """
    row = row_of(method)
    truth, new = _words() if row.classes else _plane(row)
    flow = for_row(new, row, truth.sample(64).float())
    teacher = copy.deepcopy(new) if row.features else truth
    flow = flow.given(label=0) if row.null else flow
    found = ({"null": {"label": 1}} if row.null else {}) | dict(method_args or {})
    check_method_arguments(row.build, found)
    made = row.build(**found, **({"teacher": teacher} if row.needs_teacher else {}))
    return Explanation(row, made, anatomy(made, flow, truth.sample(64).float()))


def _plane(row: Row) -> tuple[Any, FlowMap]:
    """A law in the plane, and a new map of it, of one class if the method needs a null class."""
    truth = Gaussian([0.5, -0.5], covariance=torch.tensor(COVARIANCE))
    if row.policy:
        output = MixturePolicy.fit(truth.sample(64).float(), 2)
        return truth, FlowMap(MLP((2,), width=16, depth=1, channels_out=output.channels), output)
    return truth, FlowMap(MLP((2,), width=16, depth=1, classes=1 if row.null else None))


def _words() -> tuple[Any, FlowMap]:
    """A law of words, and a new map of it."""
    return Categorical(WORDS), FlowMap(MLP((2, 3), width=16, depth=1), Endpoint(link=Hull(torch.eye(3))))


def _companion(part: Any) -> str:
    """Describe a part with its own weights; "" for any other part."""
    if isinstance(part, Averaged):
        decay = "a decay that changes" if callable(part.decay) else f"decay {part.decay:g}"
        return f"an average of its own weights ({decay})"
    if isinstance(part, Phased):
        return f"the flow map of the phase before as its teacher ({part.phases} phases)"
    if isinstance(part, Discriminator):
        return "a discriminator with an optimiser of its own"
    if isinstance(part, Auxiliary):
        return "a second network with an optimiser of its own"
    return "a learned weight of (s, t)" if isinstance(part, Learned) else ""


def _term(part: Part) -> dict[str, Any]:
    """One term for JSON."""
    return {
        "name": part.name,
        "share": part.share,
        "rule": part.rule,
        "velocity": part.velocity,
        "changes": {"progress": list(MOMENTS), **part.changes} if part.changes else {},
        "times": [{"progress": moment, **_times(s, t)} for moment, (s, t) in part.times.items()],
        "losses": {
            name: {"size": curve.sizes.tolist(), "loss": curve.loss.tolist(), "slope": curve.pull.tolist()}
            for name, curve in part.curves.items()
        },
    }


def _times(s: Tensor, t: Tensor) -> dict[str, Any]:
    """Quantiles of the two times and of the gap between them, and the share of rows with t = s."""
    at = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
    found = {name: value.float().quantile(at).tolist() for name, value in (("s", s), ("t", t), ("gap", s - t))}
    return {"quantiles": at.tolist(), **found, "diagonal": float((s == t).double().mean())}
