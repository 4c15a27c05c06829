"""Moving pictures: which state is shown when, and what is refused."""

import numpy as np
import pytest
import torch
from matplotlib.animation import FFMpegWriter
from PIL import Image

from flowmaps.figures import globe
from flowmaps.figures.animation import _curves, _points, _texts
from flowmaps.figures.style import figure, light
from flowmaps.visualise import animate


def frames(path):
    """The frames of a .gif file as arrays, and their durations in milliseconds."""
    with Image.open(path) as film:
        found = []
        for at in range(film.n_frames):
            film.seek(at)
            found.append((np.array(film.convert("RGB")).astype(int), film.info["duration"]))
    return zip(*found, strict=True)


def grey(level):
    return torch.full((1, 1, 4, 4), level)


def test_each_state_is_a_frame_and_a_shorter_film_stays_at_its_end(tmp_path):
    out = tmp_path / "deep" / "film.gif"
    long, short = [grey(level) for level in (0.0, 0.25, 0.5, 0.75, 1.0)], [grey(0.0), grey(1.0)]
    animate({"four": long, "one": short}, out, captions={"four": list("abcde")}, seconds=2.0, hold=1.6)
    pictures, durations = frames(out)
    assert durations == (800, 500, 500, 500, 1600)
    height, width = pictures[0].shape[:2]
    left, right = ([picture[height // 2, at] for picture in pictures] for at in (width // 4, 3 * width // 4))
    assert np.allclose(left, 255 * np.array([0, 0.25, 0.5, 0.75, 1])[:, None], atol=12)
    assert np.allclose(right, 255 * np.array([0, 1, 1, 1, 1])[:, None], atol=12)
    assert all((picture[0, 0] == 255).all() for picture in pictures)  # the background is the page


def test_points_series_and_texts_are_shown_where_they_are():
    with figure(light, 4, 4) as (_, axis):
        states = [torch.randn(50, 2), torch.tensor([[3.0, 1.0]]).expand(50, 2)]
        show = _points(axis, states, "k")
        show(states[1])
        assert (axis.collections[0].get_offsets() == [3, 1]).all()
        assert axis.get_xlim()[1] > 3  # the last states are inside
    with figure(light, 4, 4) as (_, axis):
        data = torch.stack((torch.zeros(8), torch.linspace(0, 1, 8)))
        show = _curves(axis, [100 * torch.randn(2, 8), data], light)
        show(data)
        flat, rising = (line[:, 1] for line in axis.collections[0].get_segments())
        assert np.allclose(flat, flat[0]) and np.allclose(np.diff(rising), 0.1)  # at the scale of the data
    with figure(light, 4, 4) as (_, axis):
        _texts(axis, [["$a", "b"]], light)(["c", "d$"])
        assert axis.texts[0].get_text() == "c\nd$"


def test_other_samples_are_drawn_by_a_figure(tmp_path):
    def draw(x, path=None, *, theme=light):
        return globe(x, path, views=[(0.0, 0.0)], width=1.0, theme=theme)

    x = torch.nn.functional.normalize(torch.randn(20, 3), dim=1)
    animate([x, -x], tmp_path / "globe.gif", draw=draw)
    (one, two), durations = frames(tmp_path / "globe.gif")
    assert (one != two).any() and durations == (1000, 1500)


@pytest.mark.parametrize(
    ("films", "told", "sentence"),
    [
        ([grey(0.0)], {}, "at least two states, got 1"),
        ([grey(0.0), torch.zeros(1, 1, 2, 2)], {}, r"one shape, got .*\(1, 1, 2, 2\)"),
        ([torch.zeros(3, 1)] * 2, {}, r"got \(3, 1\): pass a figure"),
        ([grey(0.0)] * 2, {"captions": ["only one"]}, "of 2 states needs as many captions, got 1"),
        ({"a": [grey(0.0)] * 2}, {"captions": {"b": []}}, "captions are for 'a', got 'b'"),
        ({}, {}, "at least one film"),
        ([grey(0.0)] * 2, {"seconds": 0}, "seconds"),
    ],
    ids=["one", "shapes", "column", "captions", "titles", "none", "seconds"],
)
def test_wrong_films_are_refused(films, told, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        animate(films, tmp_path / "film.gif", **told)
    assert not list(tmp_path.iterdir())


def test_other_files_and_a_missing_program_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"written as .gif or .mp4, got .*film.webm"):
        animate([grey(0.0)] * 2, tmp_path / "film.webm")
    with pytest.raises(TypeError, match="tensors or lines of text, got 3"):
        animate([3, 4], tmp_path / "film.gif")
    monkeypatch.setattr(FFMpegWriter, "isAvailable", lambda: False)
    with pytest.raises(ImportError, match=r"program ffmpeg, .*apt install ffmpeg, .*, or write a .gif file"):
        animate([grey(0.0)] * 2, tmp_path / "film.mp4")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not FFMpegWriter.isAvailable(), reason="the program ffmpeg, which writes .mp4 files, is missing")
def test_an_mp4_file(tmp_path):
    animate([grey(0.0), grey(1.0)], tmp_path / "film.mp4")
    assert b"ftyp" in (tmp_path / "film.mp4").read_bytes()[:32]
