"""Glyphs: classes by names in Unicode, centred pictures without copies, a split by character, and the cache."""

import unicodedata

import matplotlib.ft2font
import numpy as np
import pytest
import torch

import flowmaps as fm
from flowmaps.data import glyphs as module
from flowmaps.data import load
from flowmaps.data.scripts import SCRIPTS, STYLES, character_of, kinship, script, script_of, style
from flowmaps.experiments.build import make_flow

FEW = ["cmex10", "cmmi10", "cmr10", "cmsy10", "cmtt10", "STIXSizTwoSymReg"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def drawn(fonts=FEW, size=16):
    return module._drawn({name: module.font_files()[name] for name in fonts}, size)


def all_rows(data):
    """Training and held-out rows, in the order of the tables."""
    return tuple(table.take(torch.arange(len(table))) for table in (data.source.train, data.source.test))


def pictures(batch):
    return {row.tobytes() for row in batch.x0.numpy()}


@pytest.mark.parametrize(
    ("characters", "expected"),
    [
        ("Aﬀªɐ", "latin"), ("Αἄ", "greek"), ("А", "cyrillic"), ("Ա", "armenian"), ("ა", "georgian"), ("א", "hebrew"),
        ("ب٣", "arabic"), ("ກ", "lao"), ("ᐁ", "canadian syllabics"), ("ⴰꓐ", "other scripts"),
        ("𝐀ℝℏ∑+", "mathematics"), ("→⇌➤", "arrows"), ("7½Ⅻ①", "numbers"), ("?{", "punctuation"),
        ("\u0301ʰ^ˇ\u20d7", "marks"), ("⠓", "braille"), ("╬▟▒", "boxes"), ("♞€䷀", "symbols"),
        ("\ue000", "private use"),
    ],
)  # fmt: skip
def test_the_script_of_a_character(characters, expected):
    assert {script(one) for one in characters} == {expected}


def test_letters_of_a_script_are_in_its_class_and_no_other():
    words = {"LATIN": "latin", "GREEK": "greek", "CYRILLIC": "cyrillic", "HEBREW": "hebrew", "ARMENIAN": "armenian"}
    letters = [chr(code) for code in range(0x250, 0x2000) if unicodedata.category(chr(code)) in ("Lu", "Ll", "Lo")]
    assert len(letters) > 3000
    for one in letters:
        expected = words.get(unicodedata.name(one).split()[0])
        assert (script(one) == expected) if expected else script(one) not in words.values()


def test_glyphs_of_computer_modern_are_known_by_their_names_not_by_their_codes():
    font = matplotlib.ft2font.FT2Font(module.font_files()["cmmi10"])
    named = {font.get_glyph_name(index): code for code, index in font.get_charmap().items()}
    assert chr(named["omega"]) == "!"  # the code alone would make it punctuation
    assert character_of("cmmi10", named["omega"], "omega") == "ω"
    assert script_of("cmmi10", named["omega"], "omega") == "greek"
    for name, expected in (("rho1", "greek"), ("Delta", "greek"), ("sevenoldstyle", "numbers"), ("Q", "latin")):
        assert script_of("cmmi10", named[name], name) == expected
    for name, expected in (("lscript", "mathematics"), ("dotlessj", "latin"), ("arrowhookleft", "arrows")):
        assert script_of("cmmi10", named[name], name) == expected
    assert script_of("cmex10", 0, "parenleftBigg") == "punctuation"
    assert script_of("cmex10", 0, "summationdisplay") == "mathematics"
    assert script_of("cmr10", 0, "polishlcross") == "symbols"
    # the letters of the text fonts have the codes of ASCII, so names and codes agree on them
    text = matplotlib.ft2font.FT2Font(module.font_files()["cmr10"])
    codes = {code: text.get_glyph_name(index) for code, index in text.get_charmap().items()}
    assert all(character_of("cmr10", ord(one), codes[ord(one)]) == one for one in "AZaz09+=;@")


@pytest.mark.parametrize(
    ("font", "expected"),
    [
        ("DejaVuSans", "sans"), ("DejaVuSans-BoldOblique", "sans bold italic"), ("DejaVuSansMono-Bold", "mono bold"),
        ("DejaVuSerif-Italic", "serif italic"), ("STIXGeneralBolIta", "serif bold italic"), ("cmb10", "serif bold"),
        ("STIXSizFourSymBol", "serif bold"), ("cmss10", "sans"), ("cmtt10", "mono"), ("cmti10", "serif italic"),
        ("cmsy10", "serif"), ("DejaVuSerifDisplay", "serif"),
    ],
)  # fmt: skip
def test_the_style_of_a_font(font, expected):
    assert style(font) == expected and font in module.font_files()


@pytest.mark.parametrize("size", [16, 28, 33, 64])
def test_pictures_have_a_margin_are_centred_and_are_all_different(size):
    x = drawn(["cmmi10", "STIXSizTwoSymReg", "DejaVuSansDisplay"], size)["picture"]
    assert x.dtype == torch.uint8 and x.shape[1:] == (size, size) and len(x) > 150
    for axis in (1, 2):
        ink = (x > 0).any(axis).int()
        before, after = ink.argmax(1), ink.flip(1).argmax(1)
        assert int(before.min()) >= size // 16 and int(after.min()) >= size // 16
        assert set((after - before).tolist()) <= {0, 1}
    assert len({row.tobytes() for row in x.numpy()}) == len(x)
    assert 64 < float(x.amax((1, 2)).min()) and len(x.unique()) > 200  # antialiased


def test_a_glyph_has_the_pixels_of_freetype_at_the_height_of_its_em():
    font = matplotlib.ft2font.FT2Font(module.font_files()["cmr10"])
    font.set_size(28, 72)
    glyph = font.load_char(ord("R"), matplotlib.ft2font.LoadFlags.NO_HINTING)
    canvas = np.zeros((40, 40), np.uint8)
    font.draw_glyph_to_bitmap(canvas, 5, 5, glyph)
    expected = canvas[canvas.any(1)][:, canvas.any(0)]
    found = [x[x.any(1)][:, x.any(0)] for x in drawn(["cmr10"], 28)["picture"].numpy()]
    assert any(x.shape == expected.shape and (x == expected).all() for x in found)
    # a glyph that is larger than the image is drawn smaller: its longer side comes within a pixel or two of the margin
    x = drawn(["STIXSizTwoSymReg"], 28)["picture"]
    longest = torch.stack([(x > 0).any(axis).sum(1) for axis in (1, 2)]).amax(0)
    assert int(longest.max()) in (25, 26)


def test_a_picture_and_a_character_are_in_one_part_alone():
    rows = drawn()
    held = rows["kin"] < module.HELD_OUT * 2**63
    assert 0.04 < float(held.double().mean()) < 0.2
    assert not set(rows["kin"][held].tolist()) & set(rows["kin"][~held].tolist())
    train, test = all_rows(load("glyphs", fonts=FEW))
    assert len(test.x0) == int(held.sum()) and len(train.x0) == int((~held).sum())
    assert not pictures(train) & pictures(test)
    assert len(pictures(train)) == len(train.x0)
    # one character in several fonts, and its mathematical alphabets, are kin
    assert kinship("cmr10", 65, "A") == kinship("cmtt10", 65, "A") == kinship("DejaVuSans", 0x1D400, "u") == "A"
    assert kinship("cmmi10", 33, "omega") == kinship("DejaVuSans", ord("ω"), "omega") != kinship("cmr10", 33, "exclam")


def test_the_first_of_equal_pictures_is_kept():
    copy = {"cmr10": module.font_files()["cmr10"], "cmtt10": module.font_files()["cmr10"]}
    one, both = drawn(["cmr10"]), module._drawn(copy, 16)
    assert torch.equal(one["picture"], both["picture"]) and torch.equal(one["style"], both["style"])


def test_labels_and_conditions_name_script_and_style():
    data = load("glyphs", fonts=FEW)
    assert data.shape == (1, 16, 16) and data.kind == "images" and data.levels == 256 and data.class_names == SCRIPTS
    rows = next(data.batches(300))
    assert float(rows.x0.min()) == -1 and float(rows.x0.max()) == 1 and rows.given is None
    named = load("glyphs", fonts=FEW, label="style", given=["script"])
    again = next(named.batches(300))
    assert named.class_names == STYLES and torch.equal(again.x0, rows.x0)
    assert torch.equal(again.given["script"], rows.label) and not torch.equal(again.label, rows.label)
    both = load("glyphs", fonts=FEW, label="both")
    names = [both.class_names[k] for k in next(both.batches(300)).label.tolist()]
    assert names == [f"{SCRIPTS[k]}, {STYLES[j]}" for k, j in zip(rows.label, again.label, strict=True)]
    assert set(load("glyphs", fonts=["cmtt10"], label="style").draw(50).label.tolist()) == {STYLES.index("mono")}


@pytest.mark.parametrize("text", ["cmr10, cmtt10", "[cmr10,cmtt10]", "['cmr10', 'cmtt10']"])
def test_fonts_are_named_in_a_text_as_in_a_list(text):
    assert module._chosen(text) == module._chosen(["cmr10", "cmtt10"]) and len(module._chosen("cmr10")) == 1


def test_a_network_of_your_own_takes_the_style_as_a_second_condition():
    class Styled(torch.nn.Module):
        seen: list = []

        def __init__(self):
            super().__init__()
            self.inner, self.style = (
                fm.networks.MLP((1, 16, 16), width=8, depth=1, classes=19),
                torch.nn.Embedding(12, 1),
            )

        def forward(self, x, s, t, label=None, style=None):
            self.seen.append(style)
            return self.inner(x, s, t, label) + self.style(style)[:, :, None, None]

    data = load("glyphs", fonts=["cmr10", "cmtt10"], given=["style"])
    state = fm.fit(fm.FlowMap(Styled()), fm.methods.flow_matching(), data, steps=2, batch_size=8)
    assert state.step == 2 and Styled.seen[0].shape == (8,)
    assert set(Styled.seen[0].tolist()) == {STYLES.index("serif"), STYLES.index("mono")}


def test_networks_of_the_library_refuse_a_condition_that_they_do_not_take():
    data = load("glyphs", fonts=["cmr10"], given=["style"])
    with pytest.raises(ValueError, match=r"glyphs come with style.*no condition but the label.*given=\[\]"):
        make_flow(data, "imf")
    make_flow(load("glyphs", fonts=["cmr10"]), "imf")


def cache_file(home):
    (path,) = (home / "flowmaps").iterdir()
    return path


def test_the_cache_is_read_and_gives_the_same_bits(home, monkeypatch):
    first = all_rows(load("glyphs", fonts=["cmr10"]))
    monkeypatch.setattr(module, "_drawn", None)  # a second drawing would fail
    again = all_rows(load("glyphs", fonts=["cmr10"]))
    assert all(torch.equal(a.x0, b.x0) and torch.equal(a.label, b.label) for a, b in zip(first, again, strict=True))
    with pytest.raises(TypeError):
        load("glyphs", fonts=["cmr10"], size=17)
    with pytest.raises(TypeError):
        load("glyphs", fonts=["cmb10"])
    monkeypatch.setattr("matplotlib.__version__", "0.0")
    with pytest.raises(TypeError):
        load("glyphs", fonts=["cmr10"])


@pytest.mark.parametrize("harm", ["flip", "cut", "other", "empty"])
def test_a_damaged_cache_is_drawn_anew_and_written_again(home, harm):
    expected = load("glyphs", fonts=["cmr10"]).draw(40)
    path = cache_file(home)
    whole = path.read_bytes()
    if harm == "other":
        load("glyphs", fonts=["cmb10"])
        (other,) = set((home / "flowmaps").iterdir()) - {path}
        path.write_bytes(other.read_bytes())
    else:
        flipped = bytearray(whole)
        flipped[-5] ^= 1
        path.write_bytes({"flip": bytes(flipped), "cut": whole[:-100], "empty": b""}[harm])
    again = load("glyphs", fonts=["cmr10"]).draw(40)
    assert torch.equal(again.x0, expected.x0) and torch.equal(again.label, expected.label)
    assert path.read_bytes() == whole


def test_glyphs_that_cannot_be_kept_are_drawn_with_a_warning(home):
    (home / "flowmaps").write_text("a file in the place of the folder")
    with pytest.warns(UserWarning, match="drawn anew each time, as they cannot be kept"):
        assert len(load("glyphs", fonts=["cmr10"]).draw(4).x0) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 15}, "size must be a whole number from 16 to 64, got 15"),
        ({"size": 65}, "from 16 to 64"),
        ({"fonts": ["DejaVuSan"]}, "did you mean DejaVuSans"),
        ({"fonts": ["LastResortHE-Regular"]}, "fonts must be names"),
        ({"fonts": []}, "fonts must be names"),
        ({"fonts": "cmr11"}, "fonts must be names.*did you mean cmr10"),
        ({"fonts": 3}, "fonts must be"),
        ({"label": "font"}, "label must be one of script, style, both, got 'font'"),
        ({"given": ["weight"]}, "given must be a list of script and style"),
        ({"given": "style"}, "given must be a list"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        load("glyphs", **options)


def test_missing_fonts_and_packages(monkeypatch, tmp_path):
    monkeypatch.setattr("matplotlib.get_data_path", lambda: str(tmp_path))
    with pytest.raises(FileNotFoundError, match="this installation of matplotlib has no fonts"):
        load("glyphs")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"fonts of matplotlib: pip install \"\.\[data\]\""):
        load("glyphs")


@pytest.mark.slow
@pytest.mark.parametrize("size", [16, 28])
def test_all_fonts(size):
    files = module.font_files()
    assert not any(name.startswith("LastResort") for name in files)
    assert {name[:6] for name in files} >= {"DejaVu", "STIXGe", "STIXNo", "cmr10", "cmex10"}
    data = load("glyphs", size=size)
    train, test = all_rows(data)
    assert len(train.x0) > 35_000 and 3000 < len(test.x0) < 6000
    assert len(pictures(train)) == len(train.x0) and not pictures(train) & pictures(test)
    counts, held = (torch.bincount(rows.label, minlength=len(SCRIPTS)) for rows in (train, test))
    assert int(counts.min()) > 200 and int(held.min()) > 10
    assert set(load("glyphs", size=size, label="style").draw(5000).label.tolist()) == set(range(len(STYLES)))
