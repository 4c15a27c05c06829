"""Methods beside the landscape: they need more than data and a teacher, so each has another way to be trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ..method.method import Method
from .noise_adapters import variational
from .posterior import diamond, meta_flow_map
from .reward_gradients import grpo, reward_backpropagation
from .rewards import tilting

REWARD, STATE, MEASUREMENT = "a reward", "rows with a noisy state", "a measurement"


@dataclass(frozen=True, kw_only=True)
class Beside:
    """A method that is no row of the landscape.

    Args:
        build: The function, options -> `Method`.
        needs: Its needs beside the flow map and its data.
        learns: The law that it learns, in a few words.
        equation: The loss.
        use: The command or the lines of Python that train it.
        page: The page of the documentation.
        reference: Authors, year and where to find the paper.
    """

    build: Callable[..., Method]
    needs: str
    learns: str
    equation: str
    use: tuple[str, ...]
    page: str
    reference: str

    @property
    def name(self) -> str:
        """Name of the method and of its function."""
        return self.build.__name__

    @property
    def refusal(self) -> str:
        """The reason why data and a teacher do not train it, and the way that does."""
        return f"{self.name} needs {self.needs}: {', or '.join(self.use)} ({self.page})"

    def as_dict(self) -> dict[str, Any]:
        """The record for JSON: everything but the function."""
        return {"name": self.name, **{key: value for key, value in asdict(self).items() if key != "build"}}


def _rewarded(build: Callable[..., Method], **about: str) -> Beside:
    """A method that follows a reward."""
    name = build.__name__
    use = (f"flowmaps posttrain RUN --reward label:7 --method {name}", f"fm.methods.{name}(reward, beta, reference)")
    return Beside(build=build, needs=REWARD, use=use, page="docs/post_training.md", **about)


def _posterior(build: Callable[..., Method], arguments: str, **about: str) -> Beside:
    """A recipe of posterior maps."""
    use = (f"fm.train(posterior, fm.methods.{build.__name__}({arguments}), fm.data.with_state(data), ...)",)
    law = "draws of the data given a noisy state, in one jump"
    return Beside(build=build, needs=STATE, learns=law, use=use, page="docs/post_training.md", **about)


BESIDE = (
    _rewarded(
        tilting,
        learns="the law p(x0) e^{r(x0)/beta} / Z",
        equation="E |d + (sg w - 1) sg d - c sg[grad_x w]|^2 + E |V - sg[V(F, t, t) - (t - s) dV/dt]|^2",
        reference="Potaptchik et al. 2026, arXiv 2601.14430",
    ),
    _rewarded(
        reward_backpropagation,
        learns="samples that are moved, each by itself; no weight moves between modes",
        equation="E[-r(F(z, 1, 0)) + beta |F(z, 1, 0) - F_ref(z, 1, 0)|^2]",
        reference="direct backpropagation of a reward",
    ),
    _rewarded(
        grpo,
        learns="the largest E r - beta KL of rollouts by restarts",
        equation="maximise E r(x_0) - beta sum KL(transition | transition of the reference)",
        reference="Flow-Map GRPO 2026, arXiv 2607.00535",
    ),
    _posterior(
        meta_flow_map,
        "",
        equation="E |V - sg[V(F, t, t) - (t - s) dV/dt]|^2 + E |V(xb_s, s, s) - u|^2, everything given x_r and r",
        reference="Potaptchik et al. 2026, arXiv 2601.14430",
    ),
    _posterior(
        diamond,
        "teacher",
        equation="E |V - sg[V(F, t, t) - (t - s) dV/dt]|^2 + E |V(xb_s, s, s) - v_glass|^2, given x_r and r",
        reference="Holderrieth et al. 2026, arXiv 2602.05993",
    ),
    Beside(
        build=variational,
        needs=MEASUREMENT,
        learns="the noise whose jump explains a measurement",
        equation="E |y - A(F*(z, 1, 0))|^2 / (2 std^2) + KL(q(z | y) | N(0, I)),   z ~ q(z | y)",
        use=("fm.train(flow, fm.methods.variational(adapter, A, std), fm.data.with_measurement(data, A, std), ...)",),
        page="docs/post_training.md",
        reference="Variational flow maps 2026, arXiv 2603.07276",
    ),
)
"""The records of the methods beside the landscape."""


def beside_named(name: str) -> Beside | None:
    """The record of a method beside the landscape; None if none has this name. Dashes stand for underscores."""
    return next((record for record in BESIDE if record.name == name.replace("-", "_")), None)
