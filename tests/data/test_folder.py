"""Folders of real image files: labels, sizes, modes, broken files."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from flowmaps.data import load, pictures

RNG = np.random.default_rng(0)


def write(path, size=(6, 6), colour=None, mode="RGB", **options):
    """A file of one colour, or of noise; size is (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, size=(*size, 3), dtype=np.uint8) if colour is None else np.full((*size, 3), colour)
    image = Image.fromarray(pixels.astype(np.uint8)).convert(mode)
    image.save(path, **options)
    return image


def cut(path, part=0.5):
    """Truncate a file: its header stays good, its pixels do not."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])


def everything(data):
    batches = data.draw(data.size), data.held_out(10**6)
    x = torch.cat([batch.x0 for batch in batches])
    return x, None if data.classes is None else torch.cat([batch.label for batch in batches])


def test_class_folders_become_labels_in_the_order_of_their_names(tmp_path):
    for i in range(4):
        write(tmp_path / "zebra" / f"{i}.png", colour=255)
        write(tmp_path / "cat" / "deep" / f"{i}.JPG", colour=0)
        write(tmp_path / "dog" / f"{i}.webp", colour=51, lossless=True)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / ".hidden").mkdir()
    write(tmp_path / ".hidden" / "a.png")
    data = load(tmp_path)
    assert (data.shape, data.kind, data.levels, data.size) == ((3, 6, 6), "images", 256, 10)
    assert data.classes == 3 and data.class_names == ("cat", "dog", "zebra")
    x, label = everything(data)
    expected = torch.tensor([-1.0, 51 / 127.5 - 1, 1.0])[label]
    assert len(x) == 12 and torch.equal(x.mean(dim=(1, 2, 3)), expected) and torch.bincount(label).tolist() == [4, 4, 4]
    assert data.skipped == []
    assert load(tmp_path, labels=False).classes is None


def test_a_flat_folder_has_no_labels_and_its_pixels_are_exact(tmp_path):
    stored = [np.asarray(write(tmp_path / f"{i}.png", size=(4, 7))) for i in range(10)]
    data = load(str(tmp_path))
    x, label = everything(data)
    expected = torch.tensor(np.stack(stored)).movedim(-1, 1) / 127.5 - 1
    assert data.shape == (3, 4, 7) and data.classes is None and label is None
    assert sorted(x.flatten(1).tolist()) == sorted(expected.flatten(1).tolist())
    with pytest.raises(ValueError, match="labels=True needs class folders"):
        load(tmp_path, labels=True)


def test_train_and_test_folders_are_the_split(tmp_path):
    for i in range(6):
        write(tmp_path / "train" / "a" / f"{i}.png", colour=0)
        write(tmp_path / "train" / "b" / f"{i}.png", colour=0)
    for i in range(3):
        write(tmp_path / "test" / "b" / f"{i}.png", colour=255)
    data = load(tmp_path)
    assert data.size == 12 and data.class_names == ("a", "b")
    assert bool((data.draw(50).x0 == -1).all())
    held = data.held_out(50)
    assert held.x0.shape[0] == 3 and bool((held.x0 == 1).all()) and held.label.tolist() == [1, 1, 1]
    write(tmp_path / "test" / "c" / "0.png")
    with pytest.raises(ValueError, match=r"test has classes that .*train has not: c"):
        load(tmp_path)
    write(tmp_path / "other" / "0.png")
    assert load(tmp_path).class_names == ("other", "test", "train")


def test_linked_folders_and_files_are_read_and_a_circle_ends(tmp_path):
    root, elsewhere = tmp_path / "set", tmp_path / "elsewhere"
    for i in range(3):
        write(root / "dog" / f"{i}.png", colour=0)
        write(elsewhere / "cats" / "deep" / f"{i}.png", colour=255)
        write(elsewhere / "foxes" / f"{i}.PNG", colour=51)
    (root / "cat").symlink_to(elsewhere / "cats")
    (root / "fox").mkdir()
    for i in range(3):
        (root / "fox" / f"{i}.png").symlink_to(elsewhere / "foxes" / f"{i}.PNG")
    (elsewhere / "cats" / "deep" / "again").symlink_to(elsewhere / "cats")
    (root / "dog" / "all").symlink_to(root)
    x, label = everything(load(root))
    assert load(root).class_names == ("cat", "dog", "fox") and torch.bincount(label).tolist() == [3, 3, 3]
    assert torch.equal(x.mean(dim=(1, 2, 3)), torch.tensor([1.0, -1.0, 51 / 127.5 - 1])[label])
    (tmp_path / "same").symlink_to(root)
    assert torch.equal(load(tmp_path / "same").draw(5).x0, load(root).draw(5).x0)


@pytest.mark.parametrize("link", ["wolf", "dog/9.png"])
def test_a_link_to_nothing_is_no_silent_gap(tmp_path, link):
    write(tmp_path / "dog" / "0.png")
    (tmp_path / link).symlink_to(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=f"{link} is a link to .*gone, which does not exist: mend or remove"):
        load(tmp_path)


def test_splits_are_found_by_their_usual_names_in_any_case(tmp_path):
    for train, test in (("Train", "Test"), ("training", "testing"), ("TRAIN", "Val")):
        root = tmp_path / train
        for name, colour in (("a", 0), ("b", 255)):
            write(root / train / name / "0.png", colour=colour)
            write(root / test / name / "0.png", colour=colour)
        data = load(root)
        assert data.class_names == ("a", "b") and data.size == 2 and len(data.held_out(9).x0) == 2
    for name in ("cat", "dog"):
        write(tmp_path / "alone" / "train" / name / "0.png")
    assert load(tmp_path / "alone").class_names == ("cat", "dog"), "a train folder alone is no class"


def test_folders_that_are_no_classes_are_named(tmp_path):
    for name in ("cat", "dog"):
        write(tmp_path / "wrapped" / "pets" / name / "0.png")
        write(tmp_path / "set" / name / "0.png")
    with pytest.warns(
        UserWarning, match=r"pets, which is the only class; its folders \(cat, dog\) are no classes: pass"
    ):
        assert load(tmp_path / "wrapped").class_names == ("pets",)
    (tmp_path / "set" / "fox").mkdir()
    with pytest.warns(UserWarning, match="fox in .* hold no images and are no classes; the classes are cat, dog"):
        load(tmp_path / "set")
    (tmp_path / "set" / "fox" / "1.HEIC").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"1 images of .* formats that are not read \(1 .heic; the first: fox/1.HEIC"):
        load(tmp_path / "set")


def test_mixed_sizes_need_a_size(tmp_path):
    write(tmp_path / "a.png", size=(6, 6))
    write(tmp_path / "b.png", size=(8, 12))
    match = "a.png is 6 x 6, b.png is 8 x 12; pass size=SIDE"
    with pytest.raises(ValueError, match=match):
        load(tmp_path)
    assert load(tmp_path, size=4).shape == (3, 4, 4)
    assert load(tmp_path, size=(3, 5)).shape == (3, 3, 5)
    with pytest.raises(ValueError, match="size must be positive"):
        load(tmp_path, size=0)
    with pytest.raises(ValueError, match='mode "RGB" or "L", got size None and mode rgb'):
        load(tmp_path, mode="rgb")


def test_resizing_covers_and_then_cuts_at_the_centre(tmp_path):
    pixels = np.zeros((8, 24, 3), np.uint8)
    pixels[:, 8:16] = 255
    for i in range(2):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    x = load(tmp_path, size=8).draw(1).x0
    assert bool((x == 1).all()), "the central square is white"


def test_photographs_are_turned_upright(tmp_path):
    for i in range(2):
        write(tmp_path / f"{i}.png", size=(4, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    write(tmp_path / "sideways.jpg", size=(8, 4), exif=exif)
    assert load(tmp_path).shape == (3, 4, 8)


def test_grey_unless_some_are_in_colour(tmp_path):
    for i in range(3):
        write(tmp_path / f"{i}.png", colour=100, mode="L")
    assert load(tmp_path).shape == (1, 6, 6)
    assert load(tmp_path, mode="RGB").shape == (3, 6, 6)
    write(tmp_path / "colour.png")
    assert load(tmp_path).shape == (3, 6, 6)
    assert load(tmp_path, mode="L").shape == (1, 6, 6)


def test_sixteen_bits_and_transparency(tmp_path):
    for i in range(2):
        Image.fromarray(np.full((4, 4), 65535, np.uint16)).save(tmp_path / f"deep{i}.png")
    assert load(tmp_path).shape == (1, 4, 4) and bool((everything(load(tmp_path))[0] == 1).all())
    Image.fromarray(np.zeros((4, 4, 4), np.uint8), "RGBA").save(tmp_path / "clear.png")
    assert bool((everything(load(tmp_path))[0] == 1).all()), "transparent pixels are white"


def ramp(high, kind):
    """Every value up to `high` that a folder of four pictures has room for."""
    return np.linspace(0, high, 4 * 64).round().reshape(4, 8, 8).astype(kind)


@pytest.mark.parametrize(("high", "bits"), [(255, 8), (1000, 10), (4095, 12), (10000, 14), (65535, 16)])
@pytest.mark.parametrize(("kind", "suffix"), [(np.uint16, "png"), (np.uint16, "tif"), (np.int32, "tiff")])
@pytest.mark.parametrize("limit", [pictures.IN_MEMORY, 10])
def test_deep_images_keep_their_levels(tmp_path, monkeypatch, recwarn, high, bits, kind, suffix, limit):
    monkeypatch.setattr(pictures, "IN_MEMORY", limit)
    stored = ramp(high, kind)
    for i, pixels in enumerate(stored):
        Image.fromarray(pixels).save(tmp_path / f"{i}.{suffix}")
    data = load(tmp_path)
    told = [str(warning.message) for warning in recwarn]
    assert len(told) == (bits < 16) and all(
        f"largest value is {high}" in one and f"as {bits} bits" in one for one in told
    )
    x, _ = everything(data)
    assert (data.levels, data.shape) == (2**bits, (1, 8, 8)) and len(x.unique()) == len(np.unique(stored))
    expected = torch.tensor(stored.astype(np.float64)).flatten() * 2 / (2**bits - 1) - 1
    assert torch.allclose(x.flatten().sort().values.double(), expected, atol=1e-6)


def test_a_range_of_ones_own_and_pixels_of_unknown_range(tmp_path):
    for name, values in (("real", ramp(3, np.float32)), ("signed", ramp(3000, np.int32) - 1000)):
        (tmp_path / name).mkdir()
        for i, pixels in enumerate(values):
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.tif")
        with pytest.raises(ValueError, match=r"in a range that is not known .* pass value_range=\(low, high\)"):
            load(tmp_path / name)
        span = (float(values.min()), float(values.max()))
        x, _ = everything(load(tmp_path / name, value_range=span))
        assert (x.min(), x.max()) == (-1, 1) and len(x.unique()) == len(np.unique(values))
        with pytest.raises(ValueError, match="that holds the values of"):
            load(tmp_path / name, value_range=(0, 1))
        assert load(tmp_path / name, value_range=span, size=4, mode="RGB").shape == (3, 4, 4)
    write(tmp_path / "bytes" / "0.png")
    with pytest.raises(ValueError, match="value_range is for images of more than 8 bits"):
        load(tmp_path / "bytes", value_range=(0, 4095))


def test_bytes_beside_deep_images_have_their_own_range(tmp_path):
    Image.fromarray(np.full((4, 4), 65535, np.uint16)).save(tmp_path / "deep.png")
    write(tmp_path / "bytes.png", size=(4, 4), colour=51, mode="L")
    assert everything(load(tmp_path))[0].mean(dim=(1, 2, 3)).sort().values.tolist() == pytest.approx(
        [51 / 127.5 - 1, 1]
    )


def colours_of_16_bits(path, pixels):
    """A PNG with colours of 16 bits, which pillow cannot write."""
    raw = b"".join(b"\0" + line.astype(">u2").tobytes() for line in pixels)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, 2, 0, 0, 0))]
    parts += [(b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(b)) + a + b + struct.pack(">I", zlib.crc32(a + b)) for a, b in parts]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def test_colours_of_which_a_few_levels_are_read_are_refused(tmp_path):
    colours_of_16_bits(tmp_path / "0.png", RNG.integers(0, 4096, (6, 6, 3)))
    with pytest.raises(ValueError, match=r"colours of 16 bits, only the upper 8 are read, and these reach 1\d of 255"):
        load(tmp_path)
    colours_of_16_bits(tmp_path / "1.png", RNG.integers(0, 65536, (6, 6, 3)))
    assert load(tmp_path).shape == (3, 6, 6)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
def test_files_of_several_images_say_that_one_is_read(tmp_path, suffix):
    frames = [Image.new("L", (4, 4), value) for value in (0, 255)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match=rf"1 images of .* only the first of each is read \(a.{suffix}\)"):
        assert bool((load(tmp_path).draw(1).x0 == -1).all())


def test_palettes_inks_and_turned_pictures(tmp_path):
    clear = Image.new("P", (4, 4), 0)
    clear.putpalette([0, 0, 0, 255, 0, 0])
    clear.save(tmp_path / "palette.png", transparency=0)
    assert bool((load(tmp_path).draw(1).x0 == 1).all()), "transparent pixels are white"
    (tmp_path / "ink").mkdir()
    Image.fromarray(np.full((4, 4, 4), (0, 255, 0, 0), np.uint8), "CMYK").save(tmp_path / "ink" / "a.jpg", quality=100)
    assert load(tmp_path / "ink").draw(1).x0[0, :, 0, 0].tolist() == [1, -1, 1], "magenta"
    (tmp_path / "turned").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in ("png", "webp", "tif"):
        write(tmp_path / "turned" / f"a.{suffix}", size=(8, 4), exif=exif)
    assert load(tmp_path / "turned").shape == (3, 4, 8)


@pytest.mark.parametrize("limit", [pictures.IN_MEMORY, 10])
def test_broken_files_are_named_skipped_and_counted(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(pictures, "IN_MEMORY", limit)
    for i in range(8):
        write(tmp_path / "a" / f"{i}.png", colour=0)
        write(tmp_path / "b" / f"{i}.png", colour=255)
    (tmp_path / "a" / "3.png").write_bytes(b"no image at all")
    (tmp_path / "b" / "5.png").write_bytes(b"")
    with pytest.warns(UserWarning, match="2 of 16 images of .* are left out: .*3.png: .*5.png: ") as caught:
        data = load(tmp_path)
    assert len(caught) == 1 and len(data.skipped) == 2
    x, label = everything(data)
    assert len(x) == 14 and torch.equal(x.mean(dim=(1, 2, 3)), 2.0 * label - 1)


def test_files_cut_short_are_found_when_all_is_decoded(tmp_path):
    for i in range(6):
        write(tmp_path / f"{i}.png")
    cut(tmp_path / "2.png")
    with pytest.warns(UserWarning, match="1 of 6 images .* 2.png"):
        data = load(tmp_path)
    assert len(everything(data)[0]) == 5 and data.skipped[0].startswith("2.png: ")


def test_large_folders_are_decoded_when_taken_and_a_broken_file_has_a_stand_in(tmp_path, monkeypatch, recwarn):
    for i in range(10):
        write(tmp_path / "a" / f"{i}.png", colour=0)
        write(tmp_path / "b" / f"{i}.png", colour=255)
    small = load(tmp_path)
    monkeypatch.setattr(pictures, "IN_MEMORY", 10)
    large = load(tmp_path)
    assert isinstance(large.source.train.rows, pictures.FileRows)
    assert torch.equal(small.draw(16).x0, large.draw(16).x0) and torch.equal(small.draw(16).label, large.draw(16).label)
    for i in range(2, 9):
        cut(tmp_path / "a" / f"{i}.png", 0.7)
    broken = load(tmp_path)
    assert not recwarn.list, "the header of the broken file is good"
    with pytest.warns(UserWarning, match="images cannot be read, and others of their batch stand in: .*png") as caught:
        for _ in range(3):
            x, label = everything(broken)
            assert len(x) == 20 and torch.equal(x.mean(dim=(1, 2, 3)), 2.0 * label - 1)
    assert len(caught) <= 2, "each broken file is named once, when it is first met"
    assert sorted(entry[: len("a/2.png")] for entry in broken.skipped) == [f"a/{i}.png" for i in range(2, 9)]
    for i in range(10):
        cut(tmp_path / "a" / f"{i}.png", 0.6)
        cut(tmp_path / "b" / f"{i}.png", 0.6)
    with pytest.warns(UserWarning, match="cannot be read"), pytest.raises(ValueError, match="none of these 5 images"):
        large.draw(5)


def test_folders_with_nothing_in_them(tmp_path):
    with pytest.raises(ValueError, match=r"no images in .*: expected files ending in .bmp"):
        load(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").write_text("no image")
    with pytest.raises(ValueError, match=r"no image of .* can be read, the first of 1: a.x.png: "):
        load(tmp_path)


def test_images_beside_class_folders(tmp_path):
    write(tmp_path / "top.png")
    write(tmp_path / "cat" / "0.png")
    with pytest.raises(ValueError, match=r"images beside class folders \(top.png and cat/\)"):
        load(tmp_path)
    assert load(tmp_path, labels=False).size == 1
