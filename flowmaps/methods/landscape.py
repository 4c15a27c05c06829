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

from ..method.method import Method
from . import papers
from .compositional import fmm, pfmm, progressive_distillation, psd, shortcut, splitmeanflow
from .consistency_models import cd, ct, ctm, ect, ict, lcm
from .data_free import boot, freeflow, pid
from .diffusion import flow_matching
from .eulerian import ayf_emd, emd, esd, facm
from .lagrangian import ayf_lmd, lmd, lsd, tvm
from .mean_flows import alphaflow, dmf, imf, meanflow, pixel_meanflow, rectified_meanflow, soflow
from .mid_training import cmt
from .papers import Paper
from .trig_flow import scd, sct


@dataclass(frozen=True)
class Row:
    """A method.

    - rule, learning (setting), output (what the network predicts in the paper), notes
    - published_cost: the post's; cost, shared: ours on a full batch and with the method's own shares of it
    - equation: the loss; gradient: what of it carries gradient
    - only_source, only_target: the end that its map knows, where it is partial (`FlowMap`)
    - few_step: the jumps it is made for; data_free: it trains without data; coupled: it trains on couplings that a
      teacher made (`data.reflow`)
    """

    name: str
    rule: str
    learning: str
    output: str
    notes: str
    published_cost: int | None
    cost: float
    shared: float
    paper: Paper
    build: Callable[..., Method]
    equation: str
    gradient: str
    only_source: float | None = None
    only_target: float | None = None
    few_step: int = 1
    data_free: bool = False
    coupled: bool = False

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
        """Everything but the function, for printing and JSON."""
        found = {key: value for key, value in asdict(self).items() if key not in ("build", "paper")}
        return {**found, "reference": self.reference}


V, F = "average velocity", "position"
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
        papers.LIPMAN2023FLOW,
        flow_matching,
        "E | V(x_s, s, s) - u |^2,  u = eps - x_0",
        "V",
    ),
    Row(
        "lmd",
        "lagrangian",
        TEACHER,
        V,
        "JVP, nothing stopped",
        9,
        8,
        8,
        papers.BOFFI2024FLOW,
        lmd,
        "E | V + (t - s) dV/dt - v(F(x_s, s, t), t) |^2",
        "V, dV/dt, and through the input of the teacher",
    ),
    Row(
        "lsd",
        "lagrangian",
        SELF,
        V,
        "JVP, target stopped",
        10,
        10,
        4,
        papers.BOFFI2025BUILD,
        lsd,
        "E | V + (t - s) dV/dt - sg[V(F(x_s, s, t), t, t)] |^2  +  E | V(x_s, s, s) - u |^2",
        "V and dV/dt",
    ),
    Row(
        "ayf_lmd",
        "lagrangian",
        TEACHER,
        V,
        "JVP stopped",
        6,
        5,
        5,
        papers.SABOUR2025ALIGN,
        ayf_lmd,
        "E | V - sg[v(F(x_s, s, t), t) - r (t - s) dV/dt] |^2",
        "V",
    ),
    Row(
        "tvm",
        "lagrangian",
        SELF,
        V,
        "JVP, averaged target",
        10,
        10,
        5,
        papers.ZHOU2025TERMINAL,
        tvm,
        "E | V + (t - s) dV/dt - sg[V*(F(x_s, s, t), t, t)] |^2  +  E | V(x_s, s, s) - u |^2,  V* averaged",
        "V and dV/dt",
    ),
    Row(
        "freeflow",
        "lagrangian",
        TEACHER,
        V,
        "s = 1 only, finite difference stopped, auxiliary network",
        12,
        12,
        5.5,
        papers.TONG2025FLOW,
        freeflow,
        (
            "E | V(eps, 1, t) - sg[v(F(eps, 1, t), t) - (t - 1) dV/dt] |^2  +  "
            "lambda E <V(eps, 1, 0), sg[w - v](x_r, r)>,\n"
            "E | w(x_r, r) - (n - sg[F(eps, 1, 0)]) |^2 for the auxiliary w,  x_r = (1 - r) sg[F(eps, 1, 0)] + r n"
        ),
        "V(eps, 1, t) and V(eps, 1, 0); the auxiliary loss reaches w alone",
        only_source=1.0,
        data_free=True,
    ),
    Row(
        "pid",
        "lagrangian",
        TEACHER,
        F,
        "s = 1 only, finite difference, target stopped",
        7,
        7,
        7,
        papers.TEE2024PHYSICS,
        pid,
        "E | V(eps, 1, t) + (t - 1) dV/dt - sg[v(F(eps, 1, t), t)] |^2",
        "V and both branches of the difference",
        only_source=1.0,
        data_free=True,
    ),
    Row(
        "boot",
        "lagrangian",
        TEACHER,
        F,
        "s = 1 only, finite step, target stopped",
        None,
        5,
        5,
        papers.GU2023BOOT,
        boot,
        "E | V(eps, 1, t) - sg[((1 - m) V(eps, 1, m) + (m - t) v(F(eps, 1, m), m)) / (1 - t)] |^2,  m = t + step",
        "V at the farther point t",
        only_source=1.0,
        data_free=True,
    ),
    Row(
        "ct",
        "eulerian",
        SELF,
        F,
        "t = 0 only, finite step, averaged target; biased",
        4,
        4,
        4,
        papers.SONG2023CONSISTENCY,
        ct,
        "E | F(x_s, s, 0) - sg[F*(x_m, m, 0)] |^2,  m < s on a grid, x_m of the same pair, F* averaged",
        "F(x_s, s, 0)",
        only_target=0.0,
    ),
    Row(
        "cd",
        "eulerian",
        TEACHER,
        F,
        "t = 0 only, finite step, averaged target",
        5,
        5,
        5,
        papers.SONG2023CONSISTENCY,
        cd,
        "E | F(x_s, s, 0) - sg[F*(x_m, m, 0)] |^2,  x_m a step of the teacher's ODE from x_s, F* averaged",
        "F(x_s, s, 0)",
        only_target=0.0,
    ),
    Row(
        "ctm",
        "eulerian",
        TEACHER,
        F,
        "finite step, compared at t = 0 through a frozen jump",
        7,
        8,
        8,
        papers.KIM2023CONSISTENCY,
        ctm,
        "E | F'(F(x_s, s, t), t, 0) - sg[F'(F(x_m, m, t), t, 0)] |^2,  F' averaged, constant",
        "F(x_s, s, t), through the input of F'",
    ),
    Row(
        "emd",
        "eulerian",
        TEACHER,
        V,
        "JVP, nothing stopped",
        7,
        7,
        7,
        papers.BOFFI2024FLOW,
        emd,
        "E | V - v(x_s, s) - (t - s)(dV/ds + grad_x V . v) |^2",
        "V, dV/ds and grad_x V . v",
    ),
    Row(
        "esd",
        "eulerian",
        SELF,
        V,
        "JVP, its part in space stopped",
        10,
        12,
        4.5,
        papers.BOFFI2025BUILD,
        esd,
        "E | V - (t - s) dV/ds - sg[w + (t - s) grad_x V . w] |^2  +  E | V(x_s, s, s) - u |^2,  w = V(x_s, s, s)",
        "V and dV/ds",
    ),
    Row(
        "ayf_emd",
        "eulerian",
        TEACHER,
        V,
        "JVP stopped",
        6,
        5,
        5,
        papers.SABOUR2025ALIGN,
        ayf_emd,
        "E | V - sg[v(x_s, s) + r (t - s)(dV/ds + grad_x V . v)] |^2",
        "V",
    ),
    Row(
        "soflow",
        "eulerian",
        SELF,
        V,
        "finite step stopped; biased",
        7,
        7,
        3.25,
        papers.LUO2025SOFLOW,
        soflow,
        "E | V - sg[r u + (1 - r) V(x_m, m, t)] |^2 / r  +  E | V(x_s, s, s) - u |^2,  m = s + r (t - "
        "s), x_m = x_s + (m - s) u",
        "V(x_s, s, t)",
    ),
    Row(
        "facm",
        "eulerian",
        TEACHER,
        V,
        "t = 0 only, with the diagonal for an anchor, JVP stopped",
        8,
        8,
        8,
        papers.PENG2025FACM,
        facm,
        (
            "E | V - sg[V - a(s) clamp(V - v - (t - s)(dV/ds + grad_x V . v))] |^2 at t = 0\n"
            "  +  E | V(x_s, s, s) - v |^2  +  E [1 - cos(V(x_s, s, s), v)]"
        ),
        "V(x_s, s, 0) and V(x_s, s, s)",
        only_target=0.0,
    ),
    Row(
        "meanflow",
        "eulerian",
        MARGINAL,
        V,
        "target stopped",
        4,
        4,
        3.25,
        papers.GENG2025MEAN,
        meanflow,
        "E | V - sg[u + (t - s)(dV/ds + grad_x V . u)] |^2,  u = eps - x_0",
        "V",
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
        papers.GENG2025IMPROVED,
        imf,
        "E | V + (s - t) sg[dV/ds + grad_x V . V(x_s, s, s)] - u |^2",
        "V",
    ),
    Row(
        "alphaflow",
        "eulerian",
        MARGINAL,
        V,
        "from a finite step to MeanFlow; biased until then",
        None,
        4,
        3.75,
        papers.ZHANG2025ALPHAFLOW,
        alphaflow,
        "E | V - sg[a u + (1 - a) V(x_m, m, t)] |^2 / a,  m = s + a (t - s);  MeanFlow at a = 0",
        "V(x_s, s, t)",
    ),
    Row(
        "dmf",
        "eulerian",
        MARGINAL,
        V,
        "decoupled layers, learned Cauchy loss",
        None,
        7,
        3.5,
        papers.LEE2025DECOUPLED,
        dmf,
        "MeanFlow's two terms under  log(exp(-p(s, t)) |r|^2/D + 1) + p(s, t)/2",
        "V and the learned p",
    ),
    Row(
        "rectified_meanflow",
        "eulerian",
        MARGINAL,
        V,
        "MeanFlow on reflow couplings",
        None,
        4,
        3.25,
        papers.ZHANG2025OVERCOMING,
        rectified_meanflow,
        "MeanFlow's loss on couplings (eps, x_0) made by a teacher's ODE",
        "V",
        coupled=True,
    ),
    Row(
        "pixel_meanflow",
        "eulerian",
        MARGINAL,
        F,
        "improved MeanFlow that predicts the denoised field",
        None,
        5,
        4,
        papers.LU2026ONE,
        pixel_meanflow,
        "improved MeanFlow's loss;  V = (x_s - D)/s for a network that predicts D",
        "V",
    ),
    Row(
        "ict",
        "eulerian",
        SELF,
        F,
        "t = 0 only, finite step, pseudo-Huber; biased",
        None,
        4,
        4,
        papers.SONG2023IMPROVED,
        ict,
        "E d(F(x_s, s, 0), sg[F(x_m, m, 0)]) / (sigma_s - sigma_m),  sigma = s/(1 - s)",
        "F(x_s, s, 0)",
        only_target=0.0,
    ),
    Row(
        "ect",
        "eulerian",
        SELF,
        F,
        "t = 0 only, step shrinks from all of s; biased",
        None,
        4,
        4,
        papers.GENG2024CONSISTENCY,
        ect,
        "E | F(x_s, s, 0) - sg[F(x_m, m, 0)] | / (sigma_s - sigma_m)",
        "F(x_s, s, 0)",
        only_target=0.0,
    ),
    Row(
        "sct",
        "eulerian",
        MARGINAL,
        V,
        "t = 0 only, tangent normalised, learned weight",
        None,
        4,
        4,
        papers.LU2024SIMPLIFYING,
        sct,
        "E exp(-w(s))/D cot(tau) | N - sg[N + g/(|g| + c)] |^2 + w(s),  g = cos(tau) df/dtau,  f = "
        "cos(tau) z - sin(tau) N",
        "N and the learned w",
        only_target=0.0,
    ),
    Row(
        "scd",
        "eulerian",
        TEACHER,
        V,
        "t = 0 only, tangent normalised, learned weight",
        None,
        5,
        5,
        papers.LU2024SIMPLIFYING,
        scd,
        "as sct, df/dtau along the teacher's velocity",
        "N and the learned w",
        only_target=0.0,
    ),
    Row(
        "lcm",
        "eulerian",
        TEACHER,
        F,
        "t = 0 only, long steps, pseudo-Huber",
        None,
        5,
        5,
        papers.LUO2023LATENT,
        lcm,
        "E d(F(x_s, s, 0), sg[F*(x_m, m, 0)]),  m = s - 1/50",
        "F(x_s, s, 0)",
        only_target=0.0,
    ),
    Row(
        "cmt",
        "compositional",
        TEACHER,
        V,
        "mid-training on trajectories of a solver",
        None,
        4,
        4,
        papers.HU2025CMT,
        cmt,
        "E | V(y_s, s, t) - (y_s - y_t)/(s - t) |^2,  y along the teacher's ODE from noise",
        "V",
        data_free=True,
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
        papers.FRANS2024ONE,
        shortcut,
        "E | V(x_s, s, s - 2h) - sg[mean of two jumps of h] |^2  +  E | V(x_s, s, s) - u |^2",
        "V",
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
        papers.GUO2025SPLITMEANFLOW,
        splitmeanflow,
        "E | V(x_s, s, t) - sg[(1 - g) V(x_s, s, m) + g V(F(x_s, s, m), m, t)] |^2  +  E | V(x_s, s, s) "
        "- v(x_s, s) |^2",
        "V",
    ),
    Row(
        "psd",
        "compositional",
        SELF,
        V,
        "target stopped",
        8,
        8,
        3.5,
        papers.BOFFI2025BUILD,
        psd,
        "E | V(x_s, s, t) - sg[(1 - g) V(x_s, s, m) + g V(F(x_s, s, m), m, t)] |^2  +  E | V(x_s, s, s) - u |^2",
        "V",
    ),
    Row(
        "fmm",
        "compositional",
        MARGINAL,
        V,
        "JVP, nothing stopped, both directions",
        9,
        9,
        9,
        papers.BOFFI2024FLOW,
        fmm,
        "E | dF(z, t, s)/ds - u |^2  +  E | F(z, t, s) - x_s |^2,  z = F(x_s, s, t)",
        "everything",
        few_step=8,
    ),
    Row(
        "pfmm",
        "compositional",
        TEACHER,
        V,
        "a flow map as teacher",
        5,
        5,
        5,
        papers.BOFFI2024FLOW,
        pfmm,
        "E | V(x_s, s, t) - [(1 - g) V'(x_s, s, m) + g V'(F'(x_s, s, m), m, t)] |^2,  V', F' the teacher's jumps",
        "V",
    ),
    Row(
        "progressive_distillation",
        "compositional",
        TEACHER,
        V,
        "one step for two, phase after phase",
        None,
        5,
        5,
        papers.SALIMANS2022PROGRESSIVE,
        progressive_distillation,
        "E | V(x_s, s, t) - (V'(x_s, s, m) + V'(F'(x_s, s, m), m, t))/2 |^2,  V' the teacher's, then "
        "the flow's own of the phase before",
        "V",
    ),
)
