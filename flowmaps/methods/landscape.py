"""The post's table *The landscape*: one row for each method, with its cost in forward-pass equivalents.

cost counts the matrix products of the loss and its backward pass on a full batch in every term, over those of one
forward pass (that is how the post counts: a forward pass 1, a backward pass 2, a derivative with its forward pass 2, a
backward pass through both 4). The diagonal of meanflow and imf is not a term of its own in that count: in the papers
it is a share of the rows of the Eulerian one. `shared` is the same for the method's own shares of the batch. Both are
counted in the tests, not estimated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ..method import Method
from .compositional import pfmm, psd, shortcut, splitmeanflow
from .diffusion import flow_matching
from .eulerian import ayf_emd, emd, esd, imf, meanflow
from .lagrangian import ayf_lmd, lmd, lsd


@dataclass(frozen=True)
class Row:
    """One method: rule, learning setting, what the network predicts, notes, the post's cost, ours (full batch, own
    shares), paper, function.
    """

    name: str
    rule: str
    learning: str
    output: str
    notes: str
    published_cost: int | None
    cost: float
    shared: float
    reference: str
    build: Callable[..., Method]

    @property
    def needs_teacher(self) -> bool:
        """Whether `build` takes teacher=."""
        return self.learning == "distillation"

    def as_dict(self) -> dict[str, Any]:
        """Everything but the function, for printing and JSON."""
        return {key: value for key, value in asdict(self).items() if key != "build"}


V = "average velocity"
SELF, MARGINAL, TEACHER = "self-distillation", "marginal from conditional", "distillation"

LANDSCAPE: tuple[Row, ...] = (
    Row(
        "flow_matching",
        "diffusion",
        MARGINAL,
        V,
        "the diagonal only",
        None,
        3,
        3,
        "Lipman et al. 2023, arXiv 2210.02747",
        flow_matching,
    ),
    Row("lmd", "lagrangian", TEACHER, V, "JVP, nothing stopped", 9, 8, 8, "Boffi et al. 2024, arXiv 2406.07507", lmd),
    Row("lsd", "lagrangian", SELF, V, "JVP, target stopped", 10, 10, 4, "Boffi et al. 2025, arXiv 2505.18825", lsd),
    Row("ayf_lmd", "lagrangian", TEACHER, V, "JVP stopped", 6, 5, 5, "Sabour et al. 2025, arXiv 2506.14603", ayf_lmd),
    Row("emd", "eulerian", TEACHER, V, "JVP, nothing stopped", 7, 7, 7, "Boffi et al. 2024, arXiv 2406.07507", emd),
    Row(
        "esd",
        "eulerian",
        SELF,
        V,
        "JVP, its part in space stopped",
        10,
        12,
        4.5,
        "Boffi et al. 2025, arXiv 2505.18825",
        esd,
    ),
    Row("ayf_emd", "eulerian", TEACHER, V, "JVP stopped", 6, 5, 5, "Sabour et al. 2025, arXiv 2506.14603", ayf_emd),
    Row(
        "meanflow",
        "eulerian",
        MARGINAL,
        V,
        "target stopped",
        4,
        4,
        3.25,
        "Geng et al. 2025, arXiv 2505.13447",
        meanflow,
    ),
    Row(
        "imf",
        "eulerian",
        MARGINAL,
        V,
        "derivative along the own velocity",
        5,
        5,
        4,
        "Geng et al. 2025, arXiv 2512.02012",
        imf,
    ),
    Row(
        "shortcut",
        "compositional",
        SELF,
        V,
        "averaged target, dyadic grid",
        8,
        8,
        3.5,
        "Frans et al. 2024, arXiv 2410.12557",
        shortcut,
    ),
    Row(
        "splitmeanflow",
        "compositional",
        TEACHER,
        V,
        "target stopped",
        9,
        9,
        4.5,
        "Guo et al. 2025, arXiv 2507.16884",
        splitmeanflow,
    ),
    Row("psd", "compositional", SELF, V, "target stopped", 8, 8, 3.5, "Boffi et al. 2025, arXiv 2505.18825", psd),
    Row(
        "pfmm",
        "compositional",
        TEACHER,
        V,
        "a flow map as teacher",
        5,
        5,
        5,
        "Boffi et al. 2024, arXiv 2406.07507",
        pfmm,
    ),
)
