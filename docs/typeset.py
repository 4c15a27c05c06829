"""Typeset the formulas of docstrings: from the plain notation of the source to MathML, which browsers show.

    E || V - sg[u + (t - s)(dV/ds + grad_x V . u)] ||^2,  u = eps - x_0

A formula is a block of a docstring, indented by four spaces, that `is_formula` accepts; all other blocks stay code.
"""

from __future__ import annotations

import html
import re
from typing import Any

import griffe
from latex2mathml.converter import convert

GREEK = ("alpha", "eps", "kappa", "lambda", "omega", "rho", "sigma", "tau")
FUNCTIONS = (
    "arctan", "ceil", "clamp", "compare", "cos", "cot", "exp", "floor", "log", "max", "min", "sg", "sigmoid", "sin",
    "softmax", "softplus", "sqrt",
)  # fmt: skip
NAMES = ("last", "first", "mean", "mask", "middle", "points", "progress", "ramp", "scale", "step", "steepness")
TOKEN = re.compile(
    r"(?P<slope>d(?:[A-Zfx](?:\([^()]*\))?)/d(?:tau|[a-z]))"  # dV/ds
    r"|(?P<grad>grad(?:_x)?(?=\s))"
    r"|(?P<name>[A-Za-z]+(?:-[a-z]+)*(?P<mark>'(?!s\b)|\*(?=[(,.]|\s))?(?:_(?P<index>[A-Za-z0-9]+))?)"
    r"|(?P<number>\d+(?:\.\d+)?)"
    r"|(?P<clause>,\s\s+|;\s\s+)|(?P<space>\s+)"
    r"|(?P<norm>\|\|)|(?P<arrow>->)|(?P<least><=|>=)|(?P<dots>\.\.\.)|(?P<angle><(?=\S)|(?<=\S)>)|(?P<power>\^)|(?P<possessive>'s\b)"
    r"|(?P<other>.)",
    re.S,
)
Token = tuple[str, re.Match[str]]
SYMBOLS = {
    "\0": "{",
    "\1": "}",
    "~": r"\sim",
    ".": r"\cdot",
    "{": r"\{",
    "}": r"\}",
    "%": r"\%",
    "#": r"\#",
    "&": r"\&",
    "_": r"\_",
}


def is_formula(block: str) -> bool:
    """Whether an indented block of a docstring is a formula: no code, no columns, no list of names."""
    if re.search(r"[\"`#]|\w\(\.\.\.\)|\bfm\.|_pretrained|\w=\w|: \w|\w\.\w", block):
        return False
    lines = [line.strip() for line in block.splitlines()]
    return all(not re.match(r"[\w, ().*/]+ {2,}[\w(]", line) for line in lines) and bool(re.search(r"[=^|\[]", block))


def to_mathml(block: str) -> str:
    """Typeset a formula. Each of its lines is a line of the page."""
    lines = [convert(to_latex(line.strip())) for line in block.strip("\n").splitlines()]
    large = '<math displaystyle="true"'
    shown = "".join(f"<p>{line.replace('<math', large, 1)}</p>" for line in lines)
    return f'<div class="formula" title="{html.escape(block.strip(), quote=True)}">{shown}</div>'


def to_table(block: str) -> str:
    """Typeset lines with columns, which three spaces divide, as a table; a formula without columns as `to_mathml`."""
    lines = [re.split(r" {3,}", line.strip()) for line in block.strip("\n").splitlines()]
    if max(map(len, lines)) == 1:
        return to_mathml(block)
    rows = ("".join(f"<td>{_cell(cell)}</td>" for cell in line) for line in lines)
    return f'<div class="formula"><table>{"".join(f"<tr>{row}</tr>" for row in rows)}</table></div>'


def _cell(text: str) -> str:
    """A cell of a table: words as they are, anything else as a formula."""
    return html.escape(text) if re.fullmatch(r"[a-zA-Z-]{2,}(?: [a-z-]+)*", text) else convert(to_latex(text))


def to_latex(line: str) -> str:
    """Translate a line from the plain notation to LaTeX."""
    line = re.sub(r"\^\(([^()]*)\)", lambda power: f"^\0{power[1]}\1", line)
    parts, text = [], ""
    tokens = [(_kind(found), found) for found in TOKEN.finditer(line)]
    for place, (kind, found) in enumerate(tokens):
        if _is_text(tokens, place) or (kind == "space" and text and _is_text(tokens, place + 1)):
            text += found[0]
            continue
        parts += [_text(text, parts, found[0])] if text else []
        text = ""
        parts.append(_part(kind, found, tokens, place))
    parts += [_text(text, parts, "")] if text else []
    return re.sub(r"\^ *\\mathrm\{(\w+)\}", r"^{\\mathrm{\1}}", "".join(parts))


def _kind(found: re.Match[str]) -> str:
    """The kind of a token."""
    return next(kind for kind in TOKEN.groupindex if found[kind] is not None and kind not in ("mark", "index"))


def _text(words: str, before: list[str], after: str) -> str:
    """Words in a formula, with space around them but beside brackets and before a comma."""
    left = "" if not before or before[-1].strip() in ("(", "[") or before[-1].endswith(r"\quad ") else r"\ "
    right = "" if after in ("", ",", ".", ":", ";", ")", "]") or after[:2] in (",  ", ";  ") else r"\ "
    return rf"{left}\text{{{words}}}{right}"


def _is_text(tokens: list[Token], place: int) -> bool:
    """Whether a token is part of words of English."""
    if place >= len(tokens):
        return False
    kind, found = tokens[place]
    if kind == "possessive":
        return True
    if kind != "name" or (place and tokens[place - 1][0] == "power"):
        return False
    follows = tokens[place + 1][1][0] if place + 1 < len(tokens) else ""
    if found[0] in ("a", "step") and follows.isspace():  # "a step of": an article and its noun
        return place + 2 < len(tokens) and (found[0] == "a" or place > 1) and _is_long(tokens[place + 2][1][0])
    return _is_word(found) and follows != "("


def _is_long(name: str) -> bool:
    """Whether a name can only be a word here, after an article or a noun."""
    return re.fullmatch(r"[a-z]{2,}", name) is not None and name not in (*GREEK, *FUNCTIONS)


def _is_word(found: re.Match[str]) -> bool:
    """Whether a name is a word of English."""
    name = re.sub(r"[_'*].*", "", found[0])
    return len(name) > 1 and name not in (*GREEK, *FUNCTIONS, *NAMES) and not re.fullmatch(r"d[a-z]", name)


def _part(kind: str, found: re.Match[str], tokens: list[Token], place: int) -> str:
    """One token in LaTeX."""
    text, follows = found[0], tokens[place + 1][0] if place + 1 < len(tokens) else None
    if kind == "name":
        return _name(found, follows == "space")
    if kind == "slope":
        above, below = text.split("/d")
        return rf"\frac{{d {to_latex(above[1:])}}}{{d {_greek(below)}}}"
    if kind == "grad":
        return r"\nabla_x " if text.endswith("x") else r"\nabla "
    if kind == "other":
        dot = text == "." and not (place and tokens[place - 1][0] == "space" and follows == "space")
        return text if dot else SYMBOLS.get(text, text) + " "
    fixed = {
        "clause": rf"{text[0]}\quad ", "space": r"\, ", "norm": r"\| ", "dots": r"\ldots ", "number": text,
        "power": "^", "arrow": r"\to ",
        "least": r"\le " if text == "<=" else r"\ge ", "angle": r"\langle " if text == "<" else r"\rangle ",
    }  # fmt: skip
    return fixed[kind]


def _name(found: re.Match[str], spaced: bool) -> str:
    """A name with its mark and its index."""
    name, mark, index = re.sub(r"[_'*].*", "", found[0]), found["mark"], found["index"]
    if name == "E" and spaced and not index:
        return r"\mathbb{E}\, "
    if re.fullmatch(r"d[a-z]", name):
        return rf"d{name[1]} "
    raised = "" if mark is None else r"^{\prime}" if mark == "'" else "^{*}"
    lowered = "" if index is None else rf"_{{{_greek(index)}}}"
    return f"{_greek(name)}{lowered}{raised} "


def _greek(name: str) -> str:
    """A letter, a Greek letter, or a name of several letters."""
    if name in GREEK:
        return r"\varepsilon " if name == "eps" else rf"\{name} "
    return name if len(name) == 1 or name.isdigit() else rf"\mathrm{{{name}}}"


class Formulas(griffe.Extension):
    """Typesets the formulas of the docstrings that mkdocstrings shows."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Replace each block that is a formula by MathML."""
        if obj.docstring is not None:
            obj.docstring.value = typeset(obj.docstring.value)


def typeset(docstring: str) -> str:
    """Replace the formulas of a docstring by MathML."""
    body, *sections = re.split(r"(?m)^(?=(?:Args|Returns|Raises|Yields|Attributes):$)", docstring, maxsplit=1)
    blocks = re.split(r"((?:^|(?<=\n\n))(?:    .*(?:\n|$))+)", body)
    blocks[1::2] = [f"{to_mathml(block)}\n" if is_formula(block) else block for block in blocks[1::2]]
    return "".join([*blocks, *sections])
