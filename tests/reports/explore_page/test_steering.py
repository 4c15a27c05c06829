"""The chapter on steering: tilted law, values, weights and particles are the ones of the library."""

import json
import math
from dataclasses import dataclass

import pytest
import torch

import flowmaps as fm
from flowmaps.reports.explore_page.networks import decoded
from flowmaps.reports.explore_page.page import POST

PART, LAW = (json.loads((POST / f"{name}.json").read_text()) for name in ("map", "law"))
CALLS = """async ({ x, t, centre, width, z }) => {
  const [{ Mixture }, { FlowMap }] = [await import("exact"), await import("networks")];
  const { Random } = await import("random");
  const s = await import("steering");
  const data = JSON.parse(document.getElementById("data").textContent);
  const [law, flow] = [new Mixture(data.law.ring), new FlowMap(data.map.flow)];
  const [reward, tilted] = [s.rewardOf({ centre, width }), law.tilted({ centre, width })];
  const end = (run) => { let step; do step = run.next(); while (!step.done); return step.value; };
  const lists = (found) => Object.fromEntries(Object.entries(found).map(([key, each]) => [key, [...each]]));
  x = Float64Array.from(x);
  const values = {
    denoiser: s.byDenoiser(law, reward), jump: s.byJump(flow, reward), exact: s.byExact(law, tilted),
    draws: s.byDraws(law, reward, new Random(1), 40000),
  };
  const found = Object.fromEntries(Object.entries(values).map(([name, value]) => [name, lists(end(value(x, t)))]));
  const { mean, std } = s.ancestralMoments(law, x, t, t - 0.1);
  const moved = s.pushed(mean, std, Float64Array.from(found.denoiser.slope), Float64Array.from(z), 1);
  return { found, mean: [...mean], std, moved: lists(moved), logZ: tilted.logZ };
}"""
DONE = """async () => {
  const made = await instrument("steering");
  while (!made.state().ready.includes("draws particles")) await new Promise(requestAnimationFrame);
  return made.state();
}"""


@dataclass(frozen=True)
class Near:
    """The reward of the chapter, -|x - centre|^2/(2 width^2)."""

    centre: torch.Tensor
    width: float

    def __call__(self, x0):
        return -((x0 - self.centre) ** 2).sum(1) / (2 * self.width**2)

    def quadratic(self, shape):
        q = 1 / self.width**2
        return fm.exact.Quadratic(q * self.centre, q * torch.eye(2).double(), -q / 2 * float(self.centre @ self.centre))


def ring():
    return fm.exact.GaussianMixture(*(torch.tensor(LAW["ring"][key]).double() for key in ("weights", "means", "stds")))


@pytest.mark.slow
def test_values_weights_and_the_tilted_law_are_those_of_the_library(page, tmp_path):
    window = page()
    window.goto(f"file://{fm.reports.explore(tmp_path / 'post.html')}")
    law, flow, t = ring(), decoded(PART["flow"]), 0.6
    torch.manual_seed(0)
    x, z = torch.randn(5, 2).double(), torch.randn(5, 2).double()
    reward = Near(torch.tensor([0.9, -0.4]).double(), 0.5)
    asked = {"x": x.flatten().tolist(), "z": z.flatten().tolist(), "t": t, "centre": [0.9, -0.4], "width": 0.5}
    found = window.evaluate(CALLS, asked)

    tilted, log_z = law.tilted(reward)
    exact = tilted.log_prob(x, t) - law.log_prob(x, t) + log_z
    gradient = tilted.score(x, t) - law.score(x, t)
    known = {"exact": (exact, gradient)}
    for name, model, look in (("denoiser", law, fm.look.denoise), ("jump", flow, fm.look.jump())):
        known[name] = fm.steering.full(fm.steering.value(reward, look), model, x, t)
    for name, (value, slope) in known.items():
        assert (torch.tensor(found["found"][name]["value"]) - value).abs().max() < 1e-4, name
        assert (torch.tensor(found["found"][name]["slope"]).reshape(-1, 2) - slope).abs().max() < 1e-4, name
    assert (known["denoiser"][0] - exact).abs().max() > 0.1  # a point is another value
    assert (torch.tensor(found["found"]["draws"]["value"]) - exact).abs().max() < 0.15  # 40000 draws: up to 0.07
    assert math.isclose(found["logZ"], log_z, abs_tol=1e-6)

    mean, std = fm.steps.ancestral.moments(law, x, t, t - 0.1)
    shift = std * known["denoiser"][1]
    shift = shift / shift.norm(dim=1, keepdim=True).clamp(min=1)
    assert (torch.tensor(found["moved"]["x"]).reshape(-1, 2) - (mean + std * (shift + z))).abs().max() < 1e-4
    cost = -(shift * (z + shift / 2)).sum(1)
    assert (torch.tensor(found["moved"]["cost"]) - cost).abs().max() < 1e-4

    window.evaluate("instrument('steering')")
    window.locator("[data-instrument=steering] .handle").first.focus()
    window.keyboard.press("Shift+ArrowLeft")
    window.get_by_text("weighted particles", exact=True).click()
    window.get_by_text("posterior draws", exact=True).first.click()
    state = window.evaluate(DONE)
    assert state["centre"] != [1.3, 0.2]
    tilted, log_z = law.tilted(Near(torch.tensor(state["centre"]).double(), state["width"]))
    assert (torch.tensor(state["tilted"]["weights"]) - tilted.weights).abs().max() < 1e-6
    assert (torch.tensor(state["tilted"]["means"]) - tilted.means).abs().max() < 1e-6
    drawn = state["found"]["draws particles"]
    assert abs(drawn["logZ"] - log_z) < 0.4 and drawn["off"] < 0.15 and drawn["effective"] > 0.3  # of 150 particles
