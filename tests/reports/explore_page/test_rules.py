"""Chapters 3 to 5 of the page of the post, in a browser: their numbers are the library's."""

import json
import math

import pytest
import torch

import flowmaps as fm
from benchmarks.explore import PARTS, digest, written
from benchmarks.explore.shared import law
from flowmaps import reports
from flowmaps.reports.explore_page.networks import decoded
from flowmaps.reports.explore_page.page import POST

pytestmark = pytest.mark.slow
RULES = {"compositional": "triangle", "lagrangian": "canoe", "eulerian": "bridge"}


@pytest.fixture(scope="module")
def opened(chromium, tmp_path_factory):
    """The page, opened once; errors of its scripts fail the test that sees them."""
    file = reports.explore(tmp_path_factory.mktemp("explore") / "explore.html")
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page = context.new_page()
    page.set_default_timeout(5000)
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda said: page.errors.append(said.text))
    page.goto(f"file://{file}")
    yield page
    context.close()


def state(page, name):
    found = page.evaluate("async name => (await instrument(name)).state()", name)
    assert not page.errors
    return found


def control(page, name, words):
    return page.locator(f"[data-instrument={name}] .control", has_text=words).locator("input, select")


def finished(page):
    """The numbers of the landscape when its work in pieces is done."""
    for _ in range(100):
        if (found := state(page, "landscape"))["done"]:
            return found
        page.wait_for_timeout(50)
    raise AssertionError("the landscape is not done")


def network(name, snapshot):
    methods = json.loads((POST / "landscape.json").read_text())["methods"]
    return decoded(next(method for method in methods if method["name"] == name)["snapshots"][snapshot]["flow"])


def rows(values):
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 2)


def residual(found, flow):
    x, s, t = rows(found["x"]), *(torch.full((1, 1), found[time], dtype=torch.float64) for time in "st")
    if found["rule"] == "compositional":
        g = (found["m"] - found["t"]) / (found["s"] - found["t"])
        return fm.consistency.compositional(flow, flow, x, s, t, g=g)
    options = {"derivative": fm.derivative.jvp} if isinstance(flow, fm.FlowMap) else {}
    return getattr(fm.consistency, found["rule"])(flow, law(), x, s, t, **options)


@pytest.mark.parametrize("rule", RULES)
def test_residuals_are_the_librarys_and_vanish_at_the_exact_map_alone(opened, rule):
    state(opened, "rules")
    opened.locator("[data-instrument=rules] .choice span", has_text=RULES[rule]).click()
    control(opened, "rules", "training of the map").fill("1")
    control(opened, "rules", "s, the time").fill("0.8")
    handle = opened.locator("[data-instrument=rules] .handle")
    before = state(opened, "rules")
    handle.press("ArrowRight")
    found = state(opened, "rules")
    assert found["x"] != before["x"] and found["residual"] != before["residual"] and found["s"] == 0.8
    torch.testing.assert_close(rows(found["residual"]), residual(found, network(found["method"], 1)), atol=1e-4, rtol=0)
    assert found["all"][-1] < 1e-3 < 0.01 < min(found["all"][:2])


def test_a_mouse_drags_the_point(opened):
    before = state(opened, "rules")["x"]
    opened.locator("[data-instrument=rules]").scroll_into_view_if_needed()
    box = opened.locator("[data-instrument=rules] .handle").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    opened.mouse.move(x, y)
    opened.mouse.down()
    opened.mouse.move(x + 60, y - 30)
    opened.mouse.up()
    after = state(opened, "rules")["x"]
    assert after[0] > before[0] + 0.1 and after[1] > before[1] + 0.05


class Factor(torch.nn.Module):
    """A network times 1 + w."""

    def __init__(self, network):
        super().__init__()
        self.network, self.w = network, torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x, s, t):
        return (1 + self.w) * self.network(x, s, t)


class Given:
    """A teacher with the velocities of pairs."""

    def __init__(self, u):
        self.u = u

    def velocity(self, x, t):
        return self.u


def in_one_weight(found, u, **options):
    """Mean over the velocities of the gradient of |R|^2 in the factor of the network, by the library's rule."""
    flow = fm.FlowMap(Factor(network("meanflow", 2).network))
    x, s, t = (
        rows(found["x"]).expand(len(u), 2),
        *(torch.full((len(u), 1), found[k], dtype=torch.float64) for k in "st"),
    )
    R = fm.consistency.eulerian(flow, Given(u), x, s, t, **options)
    return float(torch.autograd.grad(R.square().sum(1).mean(), flow.network.w)[0])


def test_the_mean_of_pairs_is_the_velocity_at_x_and_not_at_the_end_of_the_jump(opened):
    state(opened, "gradients")
    control(opened, "gradients", "pairs").fill("11")
    opened.locator("[data-instrument=gradients] .handle").press("ArrowLeft")
    found = state(opened, "gradients")
    x, u = rows(found["x"]), rows(found["u"])
    v, end = law().velocity(x, found["s"]), law().flow_map(x, found["s"], found["t"])
    torch.testing.assert_close(rows(found["v"]), v)
    torch.testing.assert_close(rows(found["end"]), end, atol=1e-4, rtol=0)
    torch.testing.assert_close(rows(found["vEnd"]), law().velocity(end, found["t"]), atol=1e-3, rtol=0)
    stderr = u.std(0) / math.sqrt(len(u))
    torch.testing.assert_close(rows(found["error"])[0], stderr)
    assert ((u.mean(0) - v[0]).abs() < 4 * stderr).all()
    assert ((u.mean(0) - rows(found["vEnd"])[0]).abs() > 8 * stderr).any()


def test_gradients_by_pairs_are_right_through_the_value_alone(opened):
    found = state(opened, "gradients")
    u, v = rows(found["u"]), rows(found["v"])
    keep = {"slope": fm.derivative.keep, "derivative": fm.derivative.jvp}
    for kind, options in (("value", {}), ("both", keep)):
        shown = found[kind]
        assert shown["mean"] == pytest.approx(in_one_weight(found, u, **options), abs=1e-3)
        assert shown["marginal"] == pytest.approx(in_one_weight(found, v, **options), abs=1e-3)
    assert abs(found["value"]["mean"] - found["value"]["marginal"]) < 4 * found["value"]["error"]
    assert abs(found["both"]["mean"] - found["both"]["marginal"]) > 8 * found["both"]["error"]


def test_marks_show_where_gradient_flows(opened):
    state(opened, "gradients")
    control(opened, "gradients", "Where gradients go").select_option("lmd")
    formula = opened.locator("[data-instrument=gradients] .formula")
    assert formula.locator(".carries").count() == 3 and not formula.locator(".stopped").count()
    control(opened, "gradients", "Where gradients go").select_option("meanflow")
    assert formula.locator(".carries").count() == 1
    assert formula.locator(".stopped").inner_text() == "sg[u + (t - s)(dV/ds + grad_x V . u)]"


@pytest.mark.parametrize("name", ["lsd", "sct", "boot", "rectified_meanflow"])
def test_the_landscape_shows_the_samples_and_distances_of_the_method(opened, name):
    state(opened, "landscape")
    control(opened, "landscape", "Method").select_option(name)
    control(opened, "landscape", "training").fill("2")
    found = finished(opened)
    flow = network(name, 2)
    noise = rows(found["noise"])
    torch.testing.assert_close(rows(found["samples"]), flow(noise, 1.0, 0.0), atol=1e-4, rtol=0)
    start = rows(found["points"])
    exact = law()
    exact.path = flow.path
    off = (flow(start, 1.0, 0.0) - exact.flow_map(start, 1.0, 0.0)).square().sum(1).mean().sqrt()
    assert math.isclose(found["distances"][15], float(off), abs_tol=1e-4)
    known = [value is not None for value in found["distances"]]
    assert known[0] == (name != "boot") and not known[16 * 15]


def test_more_jumps_of_a_short_training_are_nearer_to_the_data(opened):
    state(opened, "landscape")
    control(opened, "landscape", "Method").select_option("lsd")
    one = state(opened, "landscape")["samples"]
    opened.locator("[data-instrument=landscape] .choice span", has_text="16").click()
    found = finished(opened)
    assert found["jumps"] == 16 and found["samples"] != one
    expected = fm.sample(network("lsd", 2), rows(found["noise"]), steps=16)
    torch.testing.assert_close(rows(found["samples"]), expected, atol=1e-4, rtol=0)


def test_files_are_those_of_the_code():
    for name in ("ranking", "gradients"):
        assert name in PARTS and written(name) == digest(name)
    ranking, landscape = (json.loads((POST / f"{name}.json").read_text()) for name in ("ranking", "landscape"))
    assert ranking["landscape"] == landscape["digest"]
    assert list(ranking["methods"]) == [method["name"] for method in landscape["methods"]]
