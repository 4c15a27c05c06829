"""Reports in a browser: what a reader can drag, point at, choose and download, beside the values in Python.

The fixture `page` fails if a page reports an error or asks the network for anything.
"""

import csv
import json
import re

import pytest
import torch

import flowmaps as fm
from flowmaps.figures import words
from flowmaps.figures.charts import smooth
from flowmaps.reports import Material, run_page

pytestmark = pytest.mark.slow
expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect

METRICS = [
    {"step": k, "seconds": k, "loss": 1 / k, "terms": {"a": 1 / k, "b": 2.0}, "mean_squares": {"a": k, "b": 1.0}}
    for k in range(1, 30)
]
CONFIG = {
    "method": {"name": "imf"},
    "training": {"labels": False, "batch_size": 4, "lr": 1e-3, "precision": "no", "seed": 0},
    "versions": {"torch": "2"},
}
ROWS = [
    {"sampler": "jump", "steps": k, "distance": 1.5 / k, "stderr": 0.01, "network_calls": k, "seconds_per_sample": k}
    for k in (1, 2, 4, 8)
]
EVALUATION = {
    "rows": ROWS, "floor": 0.1, "floor_stderr": 0.01, "metric": "distance", "measures": {"distance": "distance"},
    "draws": 2, "samples": 3, "batch_size": 4, "device": "cpu", "threads": 1,
}  # fmt: skip


def written(folder, data):
    """The page of an untrained map of some data, and its content."""
    torch.manual_seed(0)
    flow = fm.FlowMap(fm.networks.MLP(data.shape, width=8, depth=1))
    for weight in flow.parameters():  # a new map is the identity
        weight.data += 0.1 * torch.randn_like(weight)
    material = Material(flow, data, EVALUATION, CONFIG, METRICS)
    path = folder / "report.html"
    path.write_text(run_page(material), encoding="utf-8")
    return path.as_uri(), material


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return written(tmp_path_factory.mktemp("digits"), fm.data.load("digits"))


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    return written(tmp_path_factory.mktemp("board"), fm.data.load("checkerboard"))


def opened(page, report, **options):
    """A report in a browser, when its scripts have run."""
    found = page(**options)
    found.goto(report[0])
    found.locator(".way:not([hidden])").wait_for()
    return found


def picture(canvas):
    return canvas.evaluate("canvas => canvas.toDataURL()")


def test_the_slider_shows_the_states_at_its_time(page, digits):
    """By keys: at t = 0 a state is the end of its own jump, at t = 1 it is noise."""
    shown = opened(page, digits)
    slider, time = shown.get_by_role("slider", name="time t"), shown.locator(".time output")
    on_its_way, ends = shown.locator(".states canvas").all()
    noise = picture(on_its_way)
    assert time.text_content() == "t = 1" and noise != picture(ends)
    slider.press("ArrowRight")
    assert time.text_content() == "t = 0.95" == slider.get_attribute("aria-valuetext")
    assert picture(on_its_way) != noise
    slider.press("End")
    assert time.text_content() == "t = 0" and picture(on_its_way) == picture(ends)
    slider.press("Home")
    assert picture(on_its_way) == noise


def test_the_states_of_points_move_and_play(page, board):
    shown = opened(page, board, dark=True)
    on_its_way, ends = shown.locator(".states canvas").all()
    first = picture(on_its_way), picture(ends)
    shown.get_by_role("button", name="Play").click()
    expect(shown.locator(".time output")).not_to_have_text("t = 1")
    shown.get_by_role("button", name="Pause").click()
    assert picture(on_its_way) != first[0] and picture(ends) != first[1]
    assert not opened(page, board, reduced_motion="reduce").get_by_role("button", name="Play").is_visible()


def test_pointing_at_a_chart_shows_the_number_of_python(page, digits):
    shown = opened(page, digits)
    curve = smooth([row["mean_squares"]["a"] for row in METRICS])
    chart = shown.locator("figure:has([data-places])").nth(1)
    chart.locator(".reader").focus()
    chart.locator(".reader").press("ArrowRight")
    assert chart.locator(".value").text_content() == f"training step 2\na: {curve[1]:.3g}\nb: 1"
    chart.locator(".reader").blur()
    for figure in shown.locator("figure:has([data-places])").all():
        figure.scroll_into_view_if_needed()
        [places] = json.loads(figure.locator("[data-places]").get_attribute("data-places"))
        area, value = figure.locator(".reader"), figure.locator(".value")
        box = area.bounding_box()
        for x, heights, text in places["stops"][:: len(places["stops"]) // 3]:
            shown.mouse.move(box["x"] + x * box["width"], box["y"] + (1 - heights[0]) * box["height"])
            assert value.text_content() == text and value.is_visible()
    shown.mouse.move(0, 0)
    expect(shown.locator(".value:visible")).to_have_count(0)


def test_the_heat_map_is_read_cell_by_cell(page, digits):
    """The lower right cell is the one-step sampler, whose residual is in the text."""
    shown = opened(page, digits)
    area = shown.locator(".reader").first
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    shown.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] - 2)
    said = re.fullmatch("s = 1 to t = 0, (.*) % of a typical velocity", area.get_attribute("aria-valuetext"))
    assert f"straight to data: {float(said[1]):.0f}%" in " ".join(shown.locator("main").text_content().split())
    for key, pair in {"ArrowUp": "s = 1 to t = 0.05", "ArrowLeft": "s = 0.95 to t = 0.05"}.items():
        area.press(key)
        assert area.get_attribute("aria-valuetext").startswith(pair)


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_tabs_show_the_samples_of_their_sampler(page, digits, scripts):
    shown = page(java_script_enabled=scripts)
    shown.goto(digits[0])
    names = ["1 jump", "2 jumps", "4 jumps", "8 jumps", "100 ODE steps", "real data"]
    assert shown.locator(".tabs > label").all_text_contents() == names
    panels = shown.locator(".panel")
    for k, name in enumerate(names):
        shown.locator(".tabs > label", has_text=name).click()
        assert [panel.is_visible() for panel in panels.all()] == [i == k for i in range(6)]
        assert panels.nth(k).locator("img").get_attribute("alt") == f"A grid of 64 images: {name}"
    assert shown.locator("figure.strip img").first.is_visible()  # the strip of states needs no script
    assert shown.locator(".way").is_visible() == scripts


def test_a_chosen_image_is_shown_by_every_sampler(page, digits):
    shown = opened(page, digits)
    grid = shown.locator(".grid").first
    expect(shown.locator(".beside canvas")).to_have_count(5)
    first = picture(shown.locator(".beside canvas").nth(2))
    box = grid.bounding_box()
    grid.click(position={"x": box["width"] * 2.5 / 8, "y": box["height"] * 1.5 / 8})
    assert shown.locator(".beside p").text_content() == "Sample 11 of 64"
    grid.press("ArrowDown")
    assert shown.locator(".beside p").text_content() == "Sample 19 of 64"
    assert picture(shown.locator(".beside canvas").nth(2)) != first


def test_points_are_drawn_above_real_data(page, board):
    shown = opened(page, board)
    shown.locator(".tabs > label", has_text="4 jumps").click()
    assert shown.locator(".panel:visible use").evaluate("used => used.getBBox().width") > 500
    assert shown.locator(".panel:visible > svg > path").get_attribute("d").count("M") > 100


def test_downloads_are_the_table_and_the_pictures(page, digits):
    shown = opened(page, digits)

    def saved(link):
        with shown.expect_download() as found:
            link.click()
        return found.value.suggested_filename, found.value.path()

    name, path = saved(shown.get_by_role("link", name="quality.csv"))
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    seen = [row.locator("th, td").all_text_contents() for row in shown.locator("table").first.locator("tr").all()]
    assert name == "quality.csv" and len(rows) == len(seen) == 6
    for row, cells in zip(rows[1:], seen[1:], strict=True):
        assert row[0] == cells[0] and row[3] == cells[2]
        assert cells[1] == words.plus_minus(float(row[1]), float(row[2]))
    name, path = saved(shown.get_by_role("link", name="evaluation.json"))
    assert name == "evaluation.json" and json.loads(path.read_text()) == EVALUATION
    name, path = saved(shown.get_by_role("link", name="Save: 1 jump"))
    assert name == "1-jump.png" and path.read_bytes().startswith(b"\x89PNG")
    name, path = saved(shown.get_by_role("link", name="Save: loss"))
    assert name == "loss.svg" and path.read_text().startswith("<?xml")


def test_a_picture_is_enlarged_and_closed_by_keys(page, digits):
    shown = opened(page, digits)
    shown.get_by_role("button", name="Enlarge: 1 jump").press("Enter")
    large = shown.get_by_role("dialog")
    assert large.locator("img").bounding_box()["width"] > 600
    shown.keyboard.press("Escape")
    assert not large.is_visible()


def test_nothing_is_wider_than_a_phone(page, digits, board):
    for report in (digits, board):
        shown = opened(page, report, width=390, height=844, has_touch=True)
        assert shown.evaluate("document.documentElement.scrollWidth") == 390
        cells = shown.locator("th:visible, td:visible").evaluate_all(
            "all => all.map(one => one.getBoundingClientRect())"
        )
        assert cells and all(0 <= box["left"] <= box["right"] <= 390 for box in cells)
