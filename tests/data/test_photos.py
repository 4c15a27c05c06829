"""Patches of photographs: pixels of the files, no pixel in both parts, means in whole numbers, and no patch twice."""

import pytest
import torch
from sklearn.datasets import load_sample_image

from flowmaps.data import load
from flowmaps.data import photos as module


def whole(name):
    return torch.tensor(load_sample_image(f"{name}.jpg")).permute(2, 0, 1)


def tables(**options):
    data = load("photos", **options)
    return data, data.source.train, data.source.test


@pytest.fixture
def numbered(monkeypatch):
    """Photographs whose pixels hold their row, their column and their number, so that patches tell where they lie."""

    def made(scale=1):
        row, column = torch.arange(module.HEIGHT), torch.arange(module.WIDTH)
        parts = [row[:, None].expand(-1, module.WIDTH), column.expand(module.HEIGHT, -1)]
        pixels = torch.stack((*parts, parts[0] * 0))
        return tuple(pixels + torch.tensor([0, 0, number])[:, None, None] for number in range(2))

    monkeypatch.setattr(module, "_photographs", made)
    monkeypatch.setattr(module, "_means", lambda photograph, scale: photograph)


def expect_apart(size):
    """Check that the parts share no pixel of the numbered photographs, and lie on their sides of the strip."""
    _, train, test = tables(size=size, patches=600, flips=True)
    seen = []
    for table in (train, test):
        where = table.x.long()
        assert where.shape[1:] == (3, size, size)
        assert torch.equal(where[:, 2, 0, 0], table.label)
        assert int(where[:, 0].amax((1, 2)).sub(where[:, 0].amin((1, 2))).max()) == size - 1
        seen.append(set(((where[:, 2] * 1000 + where[:, 0]) * 1000 + where[:, 1]).flatten().tolist()))
    assert seen[0] and seen[1] and not seen[0] & seen[1]
    columns = {value % 1000 for value in seen[1]}
    assert columns <= set(module.STRIP) and not {value % 1000 for value in seen[0]} & set(module.STRIP)
    if size <= 64:  # both sides of the strip are used
        assert min(value % 1000 for value in seen[0]) < 384 and max(value % 1000 for value in seen[0]) > 511


@pytest.mark.slow
@pytest.mark.parametrize("size", [4, 16, 64, 128])
def test_no_pixel_is_in_both_parts(numbered, size):
    expect_apart(size)


@pytest.mark.parametrize("part", [0, 1])
def test_a_shared_column_would_be_noticed(numbered, monkeypatch, part):
    corners = module._corners
    moved = torch.tensor([0, 1 if part == 0 else -1])
    monkeypatch.setattr(
        module, "_corners", lambda side: tuple(c + moved * (k == part) for k, c in enumerate(corners(side)))
    )
    with pytest.raises((AssertionError, IndexError)):
        expect_apart(64)


def test_patches_are_pixels_of_their_photograph():
    data, train, _ = tables(size=8, patches=40, flips=False)
    assert data.shape == (3, 8, 8) and data.class_names == ("china", "flower") and data.levels == 256
    assert torch.bincount(train.label).tolist() == [20, 20]
    for number, name in enumerate(data.class_names):
        squares = whole(name).unfold(1, 8, 1).unfold(2, 8, 1)
        for patch in train.x[train.label == number][:5]:
            found = (squares[0] == patch[0]).all((2, 3)).nonzero()
            assert any(torch.equal(squares[:, row, column], patch) for row, column in found)
    x = data.draw(4).x0
    assert float(x.min()) >= -1 and float(x.max()) <= 1


@pytest.mark.parametrize("scale", [2, 3, 8])
def test_larger_squares_are_averaged(scale):
    _, fine, _ = tables(size=4 * scale, patches=60)
    data, coarse, _ = tables(size=4, scale=scale, patches=60)
    means = torch.nn.functional.avg_pool2d(fine.x.double(), scale)
    assert data.shape == (3, 4, 4) and torch.equal(coarse.label, fine.label)
    assert float((coarse.x.double() - means).abs().max()) <= 0.5


def test_no_square_is_drawn_twice_and_flips_are_half(numbered):
    _, train, _ = tables(size=32, patches=2000)
    mirrored = train.x[:, 1, 0, 0] > train.x[:, 1, 0, -1]
    assert abs(int(mirrored.sum()) - 1000) < 6 * (2000 / 4) ** 0.5
    corners = torch.stack((train.label, *(train.x[:, k].amin((1, 2)) for k in (0, 1))), 1)
    assert len(corners.unique(dim=0)) == 2000
    _, plain, _ = tables(size=32, patches=2000, flips=False)
    assert bool((plain.x[:, 1, 0, 0] < plain.x[:, 1, 0, -1]).all())
    upright = torch.where(mirrored[:, None, None, None], train.x.flip(3), train.x)
    assert torch.equal(upright, plain.x)


def test_the_seed_fixes_the_patches():
    first, again, other = (tables(size=8, patches=100, seed=seed)[1].x for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_real_patches_of_both_parts_are_different_pictures():
    _, train, test = tables(size=8, patches=4000)
    parts = [{row.tobytes() for row in table.x.numpy()} for table in (train, test)]
    assert len(parts[1]) == len(test) == 400 and not parts[0] & parts[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 3}, "size must be a whole number from 4 to 128"),
        ({"size": 129}, "size must be"),
        ({"size": 64, "scale": 3}, "scale must be a whole number from 1 to 2, got 3"),
        ({"size": 128, "patches": 10**6}, "patches must be at most 154800 for squares of 128 pixels"),
        ({"patches": 1}, "patches must be at least 2"),
        ({"seed": -1}, "seed"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        load("photos", **options)


def test_missing_packages(monkeypatch):
    module._photographs.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"photographs come with scikit-learn: pip install \"\.\[data\]\""):
        load("photos")
