"""The script and the style of a glyph: the classes of the glyphs data set, by the names of characters and of fonts."""

from __future__ import annotations

import unicodedata

SCRIPTS = (
    "latin", "greek", "cyrillic", "armenian", "georgian", "hebrew", "arabic", "lao", "canadian syllabics",
    "other scripts", "mathematics", "arrows", "numbers", "punctuation", "marks", "braille", "boxes", "symbols",
    "private use",
)  # fmt: skip
"""Names of the classes by script."""
STYLES = tuple(
    f"{family}{slant}" for family in ("sans", "serif", "mono") for slant in ("", " bold", " italic", " bold italic")
)
"""Names of the styles; oblique fonts count as italic."""
BY_WORD = {
    "LATIN": "latin", "GREEK": "greek", "CYRILLIC": "cyrillic", "ARMENIAN": "armenian", "GEORGIAN": "georgian",
    "HEBREW": "hebrew", "ARABIC": "arabic", "ARABIC-INDIC": "arabic", "LAO": "lao", "CANADIAN": "canadian syllabics",
    "MATHEMATICAL": "mathematics", "DOUBLE-STRUCK": "mathematics", "BRAILLE": "braille", "BOX": "boxes",
    "QUADRANT": "boxes", "COMBINING": "marks", "MODIFIER": "marks", "ROMAN": "numbers", "FEMININE": "latin",
    "MASCULINE": "latin", **dict.fromkeys(("COPTIC", "LISU", "NKO", "OGHAM", "OLD", "TIFINAGH"), "other scripts"),
}  # fmt: skip
"""Classes by the first word of a character's name."""
BY_CATEGORY = {"Sm": "mathematics", "Sk": "marks", "Lm": "marks", "N": "numbers", "P": "punctuation", "M": "marks"}
"""Classes by the general category or its first letter. Other letters are signs such as the one of Planck's constant."""
MATHEMATICAL = ("cmex10", "cmmi10", "cmsy10")
"""Fonts of Computer Modern for mathematics."""
ENDINGS = ("", "1", "oldstyle", "text", "display", "big", "Big", "bigg", "Bigg")
"""Endings of the names of variants of a character in Computer Modern: of `cmmi10`, and larger forms of `cmex10`."""
LETTERS = {"Delta": "\u0394", "Omega": "\u03a9", "mu": "\u03bc", "dotlessj": "\u0237"}
"""Names that are letters in Computer Modern, and that the glyph list of Adobe gives to symbols or to private use."""


def script(character: str) -> str:
    """The class of a character, decided by its name in Unicode, then by its general category.

    A name with ARROW or HARPOON is an arrow, and another character of category Sm mathematics. Characters of the area
    for private use have no name and are a class of their own.

    Args:
        character: One character.

    Returns:
        One of `SCRIPTS`.
    """
    name, category = unicodedata.name(character, ""), unicodedata.category(character)
    words = name.replace("-", " ").split()
    if category == "Co":
        return "private use"
    if category != "Mn" and {"ARROW", "ARROWS", "ARROWHEAD", "HARPOON", "HARPOONS"} & set(words):
        return "arrows"
    if category in ("Sm", "Sk"):
        return BY_CATEGORY[category]
    if by_word := BY_WORD.get(name.split(" ", 1)[0]):
        return by_word
    if "BLOCK" in words or "SHADE" in words:
        return "boxes"
    other = "mathematics" if category.startswith("L") else "symbols"
    return BY_CATEGORY.get(category, BY_CATEGORY.get(category[0], other))


def style(font: str) -> str:
    """The style of a font of matplotlib.

    Args:
        font: Name of its file, without ending.

    Returns:
        One of `STYLES`.
    """
    mono, sans = font.startswith(("DejaVuSansMono", "cmtt")), font.startswith(("DejaVuSans", "cmss"))
    bold = "Bol" in font or font == "cmb10"
    italic = "Ita" in font or "Oblique" in font or font in ("cmmi10", "cmti10")
    return ("mono" if mono else "sans" if sans else "serif") + " bold" * bold + " italic" * italic


def character_of(font: str, code: int, glyph: str) -> str | None:
    """The character that a glyph stands for.

    The charmaps of Computer Modern are in an order of its own, so its glyphs are known by their names, through the
    glyph list of Adobe. Names of variants ("rho1", "parenleftBigg") stand for their character.

    Args:
        font: Name of the font's file, without ending.
        code: The code of the glyph in the charmap.
        glyph: The name of the glyph.

    Returns:
        One character; None for a name of Computer Modern that is none.
    """
    if not font.startswith("cm"):
        return chr(code)
    from fontTools.agl import toUnicode

    names = (glyph.removesuffix(ending) for ending in ENDINGS if glyph.endswith(ending))
    found = (LETTERS.get(name) or toUnicode(name)[:1] for name in names)
    return next((one for one in found if one and unicodedata.category(one) != "Co"), None)


def script_of(font: str, code: int, glyph: str) -> str:
    """The class of a glyph.

    Args:
        font: Name of the font's file, without ending.
        code: The code of the glyph in the charmap.
        glyph: The name of the glyph.

    Returns:
        One of `SCRIPTS`. A glyph of Computer Modern that stands for no character is an arrow if its name says so, else
        mathematics in a font for mathematics and a symbol in another.
    """
    character = character_of(font, code, glyph)
    if character is not None:
        return script(character)
    if "arrow" in glyph:
        return "arrows"
    return "mathematics" if font in MATHEMATICAL else "symbols"


def kinship(font: str, code: int, glyph: str) -> str:
    """The name that a glyph shares with all glyphs of the same character, which are held out together or not at all.

    Characters that differ in their form alone are one: a letter and its mathematical alphabets have one normal form.
    """
    character = character_of(font, code, glyph)
    return glyph if character is None else unicodedata.normalize("NFKC", character)
