"""The chapter on other spaces: its numbers are the ones of the library, and drags move them."""

import json

import pytest
import torch

import flowmaps as fm
from flowmaps.reports.explore_page.networks import decoded
from flowmaps.reports.explore_page.page import POST

WORDS, GLOBE, OTHERS, MAP, LAW = (
    json.loads((POST / f"{name}.json").read_text()) for name in ("words", "globe", "distributions", "map", "law")
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def window(chromium, tmp_path_factory):
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, offline=True, reduced_motion="reduce")
    found, errors = context.new_page(), []
    found.set_default_timeout(8000)
    found.on("console", lambda said: errors.append(said.text))
    found.on("pageerror", lambda error: errors.append(str(error)))
    found.goto(f"file://{fm.reports.explore(tmp_path_factory.mktemp('page') / 'post.html')}")
    yield found
    context.close()
    assert not errors, errors


def state(window, name):
    return window.evaluate(f"instrument('{name}').then((made) => made.state())")


def state_when(window, name, key):
    for _ in range(80):
        found = state(window, name)
        if found[key]:
            return found
        window.wait_for_timeout(100)
    raise AssertionError(f"{name} is not {key} after 8 seconds")


def tensor(values, size):
    return torch.tensor(values, dtype=torch.float64).reshape(-1, size)


def ring():
    return fm.exact.GaussianMixture(*(torch.tensor(LAW["ring"][key]).double() for key in ("weights", "means", "stds")))


def drag(window, handle, across):
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    window.mouse.move(x, y)
    window.mouse.down()
    window.mouse.move(x + across[0], y + across[1], steps=2)
    window.mouse.up()


def test_words_stay_in_their_triangle_with_a_softmax_alone(window):
    before = state(window, "words")
    drag(window, window.locator("[data-instrument=words] .handle"), (-200, 30))
    window.locator("[data-instrument=words] input[type=range]").fill("0.8")
    after = state(window, "words")
    assert after["t"] == pytest.approx(0.2) and after["x"] != before["x"]
    law = fm.exact.Categorical(torch.tensor(WORDS["probabilities"]).double())
    for found in (before, after):
        x = tensor(found["x"], 3)
        assert (law.flow_map(x[None], 1.0, found["t"]) - tensor(found["exact"], 3)).abs().max() < 1e-4
        assert (law.denoise(x[None], 1.0) - tensor(found["denoised"], 3)).abs().max() < 1e-7
        for name in ("softmax", "free"):
            assert (decoded(WORDS[name])(x, 1.0, found["t"]) - tensor(found[name], 3)).abs().max() < 1e-5
    noise = tensor(after["noise"], 3)
    linked, free = (decoded(WORDS[name])(noise, 1.0, 0.0) for name in ("softmax", "free"))
    assert float(linked.min()) > -1e-9 and after["outside"][0] == 0
    assert after["outside"][1] == int(((free - (free.sum(1, keepdim=True) - 1) / 3).amin(1) < -1e-6).sum()) > 0


def test_jumps_on_the_globe_equal_the_ones_of_the_library(window):
    found = state_when(window, "globe", "ready")
    assert found["t"] == 0
    flow = decoded(GLOBE["flow"])
    noise, jumped = (tensor(found[name], 3) for name in ("noise", "jumped"))
    assert (flow(noise, 1.0, 0.0) - jumped).abs().max() < 1e-5
    assert (jumped.norm(dim=1) - 1).abs().max() < 1e-12
    walked = fm.sample(flow, noise, 50, step=fm.steps.euler)
    assert (walked - tensor(found["walked"], 3)).abs().max() < 1e-4
    steps, jump, start = found["nearness"]  # degrees to the nearest earthquake
    assert max(steps, jump) < start / 4


def test_a_drag_and_the_arrow_keys_turn_the_globe(window):
    globe = window.locator("[data-instrument=globe] canvas").first
    first = state(window, "globe")
    drag(window, globe, (60, 0))
    turned = state(window, "globe")["view"]
    assert turned[1] < first["view"][1] - 5 and turned[0] == first["view"][0]
    globe.focus()
    window.keyboard.press("ArrowUp")
    last = state(window, "globe")
    assert last["view"] == [turned[0] - 10, turned[1]] and last["seen"] != first["seen"]
    window.locator("[data-instrument=globe] input[type=range]").fill("0.5")
    assert state(window, "globe")["jumped"] != first["jumped"] and state(window, "globe")["t"] == 0.5


def test_the_divergence_along_a_path_gives_the_log_density(window):
    state(window, "density")
    drag(window, window.locator("[data-instrument=density] .handle"), (-60, 50))
    learned = state_when(window, "density", "rests")
    window.locator("[data-instrument=density]").get_by_text("exact", exact=True).click()
    exact = state_when(window, "density", "rests")
    law, x = ring(), tensor(exact["x"], 2)
    truth = float(law.log_prob(x))
    assert exact["closed"][0] == pytest.approx(truth, abs=1e-6)
    assert exact["changed"][0] == pytest.approx(truth, abs=1e-4)
    assert abs(exact["changed"][0] - exact["changed"][-1]) > 0.01  # the divergence counts
    flow = decoded(MAP["flow"])
    known = fm.likelihood.log_prob(flow, x, by=fm.likelihood.ode(steps=48))
    assert learned["changed"][0] == pytest.approx(float(known.value), abs=1e-4)
    assert abs(learned["changed"][0] - truth) > 1e-4  # the learned velocity has an error


def test_methods_that_match_distributions_give_up_the_pairing(window):
    before = state(window, "distributions")
    handle = window.locator("[data-instrument=distributions] .handle").first
    handle.focus()
    window.keyboard.press("Shift+ArrowRight")
    found = state(window, "distributions")
    assert found["x"][0] > before["x"][0] + 0.4
    flows = {one["name"]: [decoded(snapshot["flow"]) for snapshot in one["snapshots"]] for one in OTHERS["methods"]}
    noise, truth, exact, x = (tensor(found[name], 2) for name in ("noise", "truth", "exact", "x"))
    assert (ring()(noise, 1.0, 0.0) - exact).abs().max() < 1e-4
    path, other = found["sides"]
    assert path["off"] < 0.2 < 0.4 < other["off"] and max(path["energy"], other["energy"]) < 0.02
    instrument = window.locator("[data-instrument=distributions]")
    for name in ("drifting", "imm", "dmd"):
        instrument.get_by_text(name, exact=True).last.click()
        for at in range(3):
            instrument.locator("input[type=range]").fill(str(at))
            found = state(window, "distributions")
            assert [side["name"] for side in found["sides"]] == ["lsd", name]
            for side in found["sides"][name != "drifting" :]:
                flow = flows[side["name"]][at]
                samples = flow(noise, 1.0, 0.0)
                assert (samples - tensor(side["samples"], 2)).abs().max() < 1e-5
                assert (flow(x, 1.0, 0.0) - tensor(side["end"][0], 2)).abs().max() < 1e-5
                assert side["off"] == pytest.approx(float((samples - exact).norm(dim=1).mean()), abs=1e-4)
                assert side["energy"] == pytest.approx(fm.evaluate.energy_distance(samples, truth), abs=1e-6)
    assert found["sides"][0]["off"] == pytest.approx(path["off"]) and found["sides"][1]["off"] > 0.4
