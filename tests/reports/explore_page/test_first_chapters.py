"""The instruments of the first two chapters: dragging changes what it should, and the numbers are those of Python."""

import pytest
import torch

import flowmaps as fm
from flowmaps.reports.explore_page.networks import decoded

pytestmark = pytest.mark.slow


def tensor(values):
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 2)


def law_of(described):
    weights, means, stds = (torch.tensor(described[key], dtype=torch.float64) for key in ("weights", "means", "stds"))
    return fm.exact.GaussianMixture(weights, means, stds)


def test_the_map(page, post, data):
    view = page()
    view.goto(post.as_uri())

    def state():
        return view.evaluate("async () => (await instrument('map')).state()")

    before = state()
    handle = view.locator("[data-instrument=map] .handle")
    handle.hover()
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    view.mouse.down()
    view.mouse.move(x - 60, y + 90, steps=4)
    view.mouse.up()
    view.locator("[data-instrument=map] input[type=range]").nth(1).fill("0.25")
    after = state()
    assert after["x"][0] < before["x"][0] - 0.1 and after["x"][1] < before["x"][1] - 0.1 and after["t"] == 0.25
    law, flow = law_of(data["law"]["ring"]), decoded(data["map"]["flow"])
    start, s, t = tensor(after["x"]), after["s"], after["t"]
    assert (tensor(after["end"]) - law.flow_map(start, s, t)).abs().max() < 1e-5
    assert (tensor(after["guess"]) - law.denoise(start, s)).abs().max() < 1e-9
    assert (tensor(after["jump"]) - flow(start, s, t)).abs().max() < 1e-6
    assert (tensor(after["V"]) - flow.average_velocity(start, s, t)).abs().max() < 1e-6
    euler = fm.sample(law, start, times=[1.0, 0.75, 0.5, 0.25], step=fm.steps.euler)
    assert (tensor(after["walked"][-1]) - euler).abs().max() < 1e-9
    assert (tensor(before["jump"]) - tensor(after["jump"])).abs().max() > 0.1


def test_two_ways(page, post, data):
    """The deterministic walks are Euler steps, and both have the law of the data at their end."""
    view = page()
    view.goto(post.as_uri())
    start = view.evaluate("async () => (await instrument('two_ways')).state()")
    view.locator("[data-instrument=two_ways] input[type=range]").fill("1")
    end = view.evaluate("async () => (await instrument('two_ways')).state()")
    assert (start["t"], end["t"]) == (1, 0)
    assert start["deterministic"] == start["stochastic"] != end["deterministic"]
    law = law_of(data["law"]["line"])
    noise = torch.tensor(start["deterministic"], dtype=torch.float64)[:, None]
    walked = fm.sample(law, noise, 100, step=fm.steps.euler)[:, 0]
    assert (torch.tensor(end["deterministic"], dtype=torch.float64) - walked).abs().max() < 1e-9
    share = float(law.weights[0])  # of the mode below zero
    for kind in ("deterministic", "stochastic"):
        below = (torch.tensor(end[kind]) < -0.5).double().mean()
        assert abs(float(below) - share) < 4 * (share * (1 - share) / len(noise)) ** 0.5
    assert abs(torch.corrcoef(torch.stack([noise[:, 0], torch.tensor(end["stochastic"]).double()]))[0, 1]) < 0.2
    assert torch.corrcoef(torch.stack([noise[:, 0], walked]))[0, 1] > 0.8
