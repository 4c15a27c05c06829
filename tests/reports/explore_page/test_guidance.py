"""The chapter on guidance: its numbers are the ones of the library."""

import json

import pytest
import torch

import flowmaps as fm
from flowmaps.exact.solve import solve
from flowmaps.reports.explore_page.networks import NotInPages, decoded, record
from flowmaps.reports.explore_page.page import POST

PART, LAW = (json.loads((POST / f"{name}.json").read_text()) for name in ("guidance", "law"))

COMPLETE = """async () => {
  const made = await instrument("guidance");
  while (made.state().fresh < 150) await new Promise(requestAnimationFrame);
  return made.state();
}"""


def conditioned(**options):
    torch.manual_seed(0)
    network = fm.networks.MLP(2, 8, 2, classes=3)
    torch.nn.init.normal_(network.output.weight)
    flow = fm.students.student(fm.FlowMap(network), told=("guidance",), **options)
    torch.nn.init.normal_(flow.network.new.outer.weight)
    return flow


def test_a_guidance_conditioned_student_is_recorded_and_decoded():
    flow = conditioned(tame=False)
    again, x = decoded(record(flow)), torch.randn(3, 2).double()
    condition = {"label": torch.tensor([0, 2, 3]), "guidance": torch.tensor([1.0, 2.0, 5.0]).double()}
    found, known = (each.double().given(**condition)(x, 0.9, 0.2) for each in (again, flow))
    assert (found - known).abs().max() < 1e-12
    assert (found - again.given(**{**condition, "guidance": 1.0})(x, 0.9, 0.2))[1:].abs().min() > 1e-4  # it is told


def test_other_students_are_refused():
    with pytest.raises(NotInPages, match="the guidance scale"):
        record(fm.students.student(fm.FlowMap(fm.networks.MLP(2, 8, 2)), told=("strength",), tame=False))


@pytest.mark.slow
def test_numbers_are_those_of_the_library_and_a_drag_moves_them(page, tmp_path):
    window = page()
    window.goto(f"file://{fm.reports.explore(tmp_path / 'post.html')}")
    window.evaluate("instrument('guidance')")
    handle = window.locator("[data-instrument=guidance] .handle")
    handle.focus()
    before = window.evaluate("instrument('guidance').then((made) => made.state().end)")
    window.keyboard.press("Shift+ArrowDown")
    window.locator("[data-instrument=guidance] input[type=range]").fill("4")
    window.get_by_text("B", exact=True).first.click()
    state = window.evaluate(COMPLETE)
    assert state["w"] == 4 and state["label"] == 1 and state["end"] != before

    law = fm.exact.GaussianMixture(*(torch.tensor(LAW["ring"][key]).double() for key in ("weights", "means", "stds")))
    own, _ = law.tilted(fm.exact.Components(law, LAW["classes"][1]))

    def guided(x, t):
        return law.velocity(x, t) + 4 * (own.velocity(x, t) - law.velocity(x, t))

    x = torch.tensor([state["x"]]).double()
    assert (solve(guided, x, 1.0, 0.0) - torch.tensor([state["end"]])).abs().max() < 1e-4
    both = [each.flow_map(x, 1.0, 0.0) for each in (law, own)]
    assert (both[0] + 4 * (both[1] - both[0]) - torch.tensor([state["mixed"]])).abs().max() < 1e-3
    flow = decoded(PART["flow"])
    student = flow.given(label=1, guidance=4.0)(x, 1.0, 0.0)
    assert (student - torch.tensor([state["student"]])).abs().max() < 1e-6
    assert (student - flow.given(label=1, guidance=1.0)(x, 1.0, 0.0)).abs().max() > 0.01

    noise = torch.tensor(state["noise"]).double().reshape(-1, 2)
    path, told, mixed = (torch.tensor(state["cloud"][key]).reshape(-1, 2) for key in ("path", "student", "mixed"))
    assert (solve(guided, noise, 1.0, 0.0, tolerance=1e-5) - path).norm(dim=1).mean() < 2e-3
    assert (told - path).norm(dim=1).mean() < 0.08 < 1 < (mixed - path).norm(dim=1).mean()
