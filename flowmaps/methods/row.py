"""Rows of the landscape: a decorator describes each method above its function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from ..arguments import checked
from ..method.method import Method
from .papers import Paper, cite

AVERAGE_VELOCITY, POSITION, CLASSES, POLICY = "average velocity", "position", "class probabilities", "policy"
SELF, MARGINAL, TEACHER, SAMPLES = "self-distillation", "marginal from conditional", "distillation", "sets of samples"
PARTS = ("value", "time", "space", "diagonal", "teacher")
"""Parts of a formula that may carry gradient: V(x_s, s, t), its slopes in time and in space, other values of V, and the
input of the teacher."""
HIDDEN = ("build", "paper", "after", "head", "null", "sampled", "features", "own_map")
"""Fields of a row that `as_dict` leaves out."""

Build = TypeVar("Build", bound=Callable[..., Method])


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the landscape: a method, its loss, its paper and its cost.

    Costs are in forward-pass equivalents: the number of matrix products in the loss and its backward pass, divided by
    the number in one forward pass. As in the post, a forward pass is 1, a backward pass 2, a derivative with its
    forward pass 2, a backward pass through both 4. The diagonal of meanflow and imf is not counted as a separate term,
    because in the papers it is a share of the rows of the Eulerian term. The tests count both costs.

    Args:
        name: Name of the method and of its function.
        build: The function, options -> `Method`.
        rule: Rule of the main term, and name of that term.
        learning: Origin of the velocity: `SELF`, `MARGINAL` or `TEACHER`; or `SAMPLES`, which are compared with data.
        notes: Characteristics of the method, in a few words.
        cost: Cost of a training step with the full batch in every term.
        shared: Cost with the method's own shares of the batch.
        paper: Paper of the method.
        equation: The loss.
        gradient: The parts of the loss that carry gradient, in words.
        gradient_of: The same for the main term, as names in `PARTS`; the tests check them.
        output: Prediction of the network in the paper.
        published_cost: Cost in the post; None if its table does not have the method.
        only_source: The one source time that the map knows; None for a map of all sources.
        only_target: The one target time that the map knows; None for a map of all targets.
        few_step: Number of jumps for sampling.
        data_free: Whether it trains without data.
        coupled: Whether it trains on couplings made by a teacher (`data.reflow`).
        head: Whether the network needs a head for the mean divergence, as joint maps do.
        null: Whether it needs class labels and compares with a null class, so that `build` takes null=.
        after: Name of the row before it in the post's order; "": its place in its file.
        sampled: How its map is sampled, if `only_source`, `only_target` and `few_step` do not say it; "" otherwise.
        features: Whether it reads features of the teacher's network, so that its teacher must be a FlowMap.
        own_map: The flow map that the method needs and that no recipe makes, in words; "": a recipe makes it.
    """

    name: str
    build: Callable[..., Method]
    rule: str
    learning: str
    notes: str
    cost: float
    shared: float
    paper: Paper
    equation: str
    gradient: str
    gradient_of: tuple[str, ...] = ("value",)
    output: str = AVERAGE_VELOCITY
    published_cost: int | None = None
    only_source: float | None = None
    only_target: float | None = None
    few_step: int = 1
    data_free: bool = False
    coupled: bool = False
    head: bool = False
    null: bool = False
    after: str = ""
    sampled: str = ""
    features: bool = False
    own_map: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError for a part in `gradient_of` that is not one of `PARTS`."""
        if unknown := set(self.gradient_of) - set(PARTS):
            raise ValueError(f"{self.name}: gradient_of names {sorted(unknown)}, known parts are {', '.join(PARTS)}")

    @property
    def classes(self) -> bool:
        """Whether the network predicts logits of classes, so that its output needs a softmax."""
        return self.output == CLASSES

    @property
    def policy(self) -> bool:
        """Whether the network predicts a policy, the output `MixturePolicy`."""
        return self.output == POLICY

    @property
    def reference(self) -> str:
        """Authors, year and where to find the paper."""
        return self.paper.short

    @property
    def bibtex(self) -> str:
        """The paper as a BibTeX entry."""
        return self.paper.bibtex

    @property
    def needs_teacher(self) -> bool:
        """Whether `build` takes teacher=."""
        return self.learning == TEACHER

    def as_dict(self) -> dict[str, Any]:
        """The row for printing and JSON: everything but the function, its network and the place in the table."""
        found = {key: value for key, value in asdict(self).items() if key not in HIDDEN}
        return {**found, "reference": self.reference}


def landscape_row(*, paper: Paper | str, **fields: Any) -> Callable[[Build], Build]:
    """Decorator that gives a method its row, `function.row`, and checks the numbers among its arguments.

    Args:
        paper: Key of an entry of `references.bib`, or a `Paper`.
        **fields: The other fields of `Row`; `name` and `build` come from the function.

    Raises:
        ValueError: For a key that `references.bib` does not have.
    """
    reference = cite(paper) if isinstance(paper, str) else paper

    def attach(function: Build) -> Build:
        build = checked(function)
        build.row = Row(name=build.__name__, build=build, paper=reference, **fields)  # type: ignore[attr-defined]
        return build

    return attach
