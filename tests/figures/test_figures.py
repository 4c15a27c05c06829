"""Figures: what is drawn where, in which colours, and what is refused."""

import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from flowmaps import FlowMap
from flowmaps.exact import Gaussian
from flowmaps.figures.charts import measure_curves, smooth
from flowmaps.figures.pictures import enlarged, png
from flowmaps.visualise import dark, field, grid, heat_map, light, loss_curves, mosaic, path_strip, paths, points


def test_mosaic_puts_images_row_by_row():
    images = torch.arange(5, dtype=torch.float32).div(4).reshape(5, 1, 1, 1).expand(-1, -1, 2, 2)
    board = mosaic(images, columns=3, gap=1)
    assert board.shape == (5, 8, 4)
    assert board[0, 0, 0] == 0 and board[0, 3, 0] == 0.25 and board[3, 0, 0] == 0.75
    assert board[2, 0, 3] == 0 and board[3, 6, 3] == 0 and board[3, 3, 3] == 1


def test_mosaic_keeps_colours_and_clamps():
    image = torch.tensor([2.0, 0.5, -1.0]).reshape(1, 3, 1, 1)
    assert mosaic(image).flatten().tolist() == [1.0, 0.5, 0.0, 1.0]


def test_mosaic_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"images \(N, C, H, W\)"):
        mosaic(torch.zeros(3, 8, 8))


def test_enlarging_is_by_whole_factors():
    assert enlarged(torch.zeros(2, 1, 8, 10)).shape == (2, 1, 56, 70)
    large = torch.rand(2, 3, 64, 64)
    assert enlarged(large) is large


def test_png_keeps_every_pixel(tmp_path):
    board = mosaic(torch.rand(4, 3, 6, 6))
    (tmp_path / "board.png").write_bytes(png(board))
    again = torch.tensor(list(Image.open(tmp_path / "board.png").tobytes())).reshape(board.shape)
    assert torch.equal(again, (board * 255).round().long())


def test_grid_is_saved(tmp_path):
    grid(torch.rand(9, 1, 8, 8), tmp_path / "grid.png")
    assert Image.open(tmp_path / "grid.png").size[0] == 720


def test_themes_colour_the_background(tmp_path):
    for theme in (light, dark):
        points(torch.randn(50, 2), tmp_path / "points.png", theme=theme)
        corner = Image.open(tmp_path / "points.png").convert("RGB").getpixel((1, 1))
        assert corner == tuple(round(255 * part) for part in to_rgb(theme.background))


@pytest.mark.parametrize("theme", [light, dark])
def test_text_and_series_stand_out(theme):
    """Contrast by WCAG 2: 4.5 for text, 3 for lines."""

    def luminance(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(colour):
        low, high = sorted((luminance(colour), luminance(theme.background)))
        return (high + 0.05) / (low + 0.05)

    assert min(contrast(theme.text), contrast(theme.muted)) >= 4.5
    assert min(contrast(colour) for colour in theme.series) >= 3


def test_paths_start_at_noise_and_end_at_data():
    states = [torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0, 3.0]])]
    axis = paths(states).axes[0]
    line, start, end = axis.lines
    assert line.get_xydata().tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert start.get_xydata().tolist() == [[0.0, 1.0]] and end.get_xydata().tolist() == [[2.0, 3.0]]


def test_field_points_towards_data():
    """N(0, 0.01): near t = 1 the velocity points away from the data, and the arrows back to it."""
    gaussian = Gaussian(torch.zeros(2), 0.1)
    axis = field(gaussian, 1.0, count=3, extent=1.0).axes[0]
    quiver = axis.collections[0]
    assert quiver.U[-1] < 0 and quiver.U[0] > 0


def test_strip_names_its_times():
    states = [torch.rand(2, 1, 4, 4) for _ in range(3)]
    axis = path_strip(states, [1.0, 0.5, 0.0], names=["a", "b"]).axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["t = 1", "t = 0.5", "t = 0"]
    assert axis.get_xticks().tolist() == [1.5, 6.5, 11.5]
    assert axis.get_yticks().tolist() == [1.5, 6.5]


def test_a_measure_over_the_steps_has_a_curve_for_each_sampler_and_a_line_at_its_floor():
    rows = [
        {"sampler": sampler, "steps": steps, "entropy": 1 / steps, "entropy_stderr": None}
        for sampler in ("jump", "euler")
        for steps in (1, 4)
    ]
    (axis,) = measure_curves([*rows, {**rows[0], "steps": 8, "entropy": None}], "entropy", 0.25, name="entropy").axes
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["real data", "jumps", "ODE steps"]
    assert [list(line.get_ydata()) for line in axis.get_lines()] == [[1, 0.25], [1, 0.25], [0.25, 0.25]]
    with pytest.raises(ValueError, match="at least one row"):
        measure_curves([], "entropy")


def test_loss_curves_have_one_line_per_term():
    rows = [{"step": k, "loss": 3.0, "terms": {"diffusion": 0.1, "eulerian": 2.0}} for k in range(5)]
    axis = loss_curves(rows).axes[0]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["diffusion", "eulerian"]
    assert axis.get_yscale() == "log"
    assert loss_curves([{"step": 0, "loss": 1.0}, {"step": 1, "loss": 9.0}]).axes[0].get_yscale() == "linear"
    assert loss_curves([{"step": 0, "loss": -1.0}, {"step": 1, "loss": 1.0}]).axes[0].get_yscale() == "linear"
    with pytest.raises(ValueError, match="at least one row"):
        loss_curves([])


def test_mean_squares_are_drawn_where_rows_have_them():
    """Rows of earlier versions have none, a value that is not finite is null, and a stage has terms of its own."""
    old = {"step": 1, "loss": 1.0, "terms": {"a": 1.0}}
    new = {"step": 2, "loss": 1.0, "terms": {"a": 1.0}, "mean_squares": {"a": 0.25}}
    later = {"step": 3, "loss": 1.0, "terms": {"b": 1.0}, "mean_squares": {"b": None}}
    last = {"step": 4, "loss": 1.0, "terms": {"b": 1.0}, "mean_squares": {"b": 0.5}}
    axis = loss_curves([old, new, later, last], of="mean_squares").axes[0]
    assert axis.get_ylabel() == "mean square of the residual"
    assert [line.get_xydata().tolist() for line in axis.lines[::2]] == [[[2, 0.25]], [[4, 0.5]]]
    weighted = loss_curves([old, new, later, last]).axes[0]
    assert [line.get_xdata().tolist() for line in weighted.lines[::2]] == [[1, 2], [3, 4]]
    assert loss_curves([old], of="mean_squares").axes[0].get_ylabel() == "loss"


@pytest.mark.parametrize(
    ("middle", "spread"), [((0.0, 0.0), 1.0), ((50.0, -30.0), 1.0), ((1e4, 1e4), 5.0), ((0.0, 0.02), 1e-3)]
)
def test_points_fill_their_panel_wherever_they_are(middle, spread):
    x = spread * torch.randn(2000, 2, generator=torch.Generator().manual_seed(0)) + torch.tensor(middle)
    for axis in (points(x).axes[0], points(x, beside=x).axes[1], paths([x, x]).axes[0]):
        for (low, high), values in ((axis.get_xlim(), x[:, 0]), (axis.get_ylim(), x[:, 1])):
            shown = values[(values > low) & (values < high)]
            assert len(shown) > 0.98 * len(values) and shown.max() - shown.min() > 0.7 * (high - low)


def test_points_around_the_origin_have_it_in_the_middle():
    x = torch.randn(2000, 2) + torch.tensor([0.2, -0.1])
    low, high = points(x).axes[0].get_xlim()
    assert low == -high


def test_a_frame_of_the_caller_is_kept():
    x = torch.randn(20, 2)
    assert points(x, extent=3.0).axes[0].get_xlim() == (-3, 3)
    assert points(x, extent=3.0, centre=(1.0, 2.0)).axes[0].get_ylim() == (-1, 5)
    assert points(torch.full((3, 2), 7.0)).axes[0].get_xlim() == (6, 8)
    assert points(torch.full((3, 2), torch.nan)).axes[0].get_xlim() == (-1, 1)


def test_logarithmic_axes_have_plain_numbers():
    """Of a colour bar, and of losses that span little more than a decade."""
    bar = heat_map(torch.tensor([[2.0, 75.0], [10.0, 30.0]]), [0.0, 1.0])
    losses = loss_curves([{"step": k, "loss": value} for k, value in enumerate((1.6, 0.5, 0.15))])
    for made, axis in ((bar, bar.axes[1].yaxis), (losses, losses.axes[0].yaxis)):
        made.canvas.draw()
        low, high = sorted(axis.get_view_interval())
        seen = [
            t.get_text()
            for t in axis.get_ticklabels(which="both")
            if t.get_text() and low <= t.get_position()[1] <= high
        ]
        assert len(seen) >= 3 and all(float(text) > 0 for text in seen)


def test_running_mean():
    assert smooth([1.0, 2.0, 3.0, 4.0], share=0.5) == [1.0, 1.5, 2.5, 3.5]


def test_heat_map_turns_source_to_the_right():
    values = torch.full((3, 3), float("nan"))
    values[2, 0] = 8.0  # from noise (s = 1) to data (t = 0)
    values[1, 1] = 1.0
    figure = heat_map(values, [0.0, 0.5, 1.0])
    mesh = figure.axes[0].collections[0]
    drawn = mesh.get_array()
    assert drawn[0, 2] == 8.0 and drawn[1, 1] == 1.0 and int(drawn.mask.sum()) == 7


def test_heat_map_of_a_perfect_map():
    """All zero has no logarithm, and is drawn all the same."""
    heat_map(torch.zeros(3, 3), [0.0, 0.5, 1.0])


def test_figures_take_a_flow_map():
    class Still(torch.nn.Module):
        def forward(self, x, s, t):
            return torch.zeros_like(x)

    assert field(FlowMap(Still()), 0.5, count=3).axes
