"""What the pages take from the library and from measurements when the site is built.

A line `<!-- name arguments -->` of a page is replaced by what the function of that name in `INSERTS` returns, and names
such as `fm.methods.imf` in backticks become links into the API.
"""

from __future__ import annotations

import ast
import functools
import inspect
import pkgutil
import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import flowmaps
from flowmaps.methods import LANDSCAPE, Row

ROOT = Path(__file__).parent.parent
RESULTS = Path("benchmarks/results")
RULES = ("diffusion", "lagrangian", "eulerian", "compositional")
NOT_MEASURED = "*This has not been measured in this version.*"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pictures of the benchmarks belong to the site."""
    for picture in sorted((ROOT / RESULTS).rglob("*.png")):
        files.append(File.generated(config, picture.relative_to(ROOT).as_posix(), abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in the marked lines, then link the names."""
    filled = re.sub(r"^<!-- (\w+) ?(.*?) -->$", lambda mark: INSERTS[mark[1]](*mark[2].split()), markdown, flags=re.M)
    text_and_code = re.split(r"(^ *```.*?^ *```$)", filled, flags=re.M | re.S)
    text_and_code[::2] = [
        re.sub(r"(?<![\[`])`((?:fm|flowmaps)(?:\.\w+)+)`(?![\]`])", _linked, text) for text in text_and_code[::2]
    ]
    return "".join(text_and_code)


def _linked(name: re.Match[str]) -> str:
    return f"[`{name[1]}`][{home(name[1])}]"


def home(name: str) -> str:
    """The full name of the place where an object is defined, under which the API pages know it."""
    found = resolve(name)
    if isinstance(found, ModuleType):
        return found.__name__
    if inspect.isroutine(found) or inspect.isclass(found):
        return f"{found.__module__}.{found.__qualname__}"
    return re.sub(r"^fm\.", "flowmaps.", name)


def resolve(name: str) -> Any:
    """The object behind `flowmaps.times.gap` or, as a user would write it, `fm.times.gap`."""
    first, *rest = name.split(".")
    return functools.reduce(getattr, rest, flowmaps) if first == "fm" else pkgutil.resolve_name(name)


def file(path: str) -> str:
    """A file of the repository, with links that work from the top of the site."""
    folder = posixpath.dirname(path)

    def relinked(link: re.Match[str]) -> str:
        bang, text, target = link.groups()
        if re.match(r"[a-z]+:|#", target):
            return link[0]
        there = posixpath.normpath(posixpath.join(folder, target))
        if there.startswith("docs/") or there.endswith(".png"):
            return f"{bang}[{text}]({there.removeprefix('docs/')})"
        return text

    return re.sub(r"(!?)\[([^\]\n]*)\]\(([^)\s]+)\)", relinked, (ROOT / path).read_text())


def results(prefix: str) -> str:
    """The tables and pictures of a benchmark as it wrote them, or a sentence where it has not been run."""
    found = [path for path in sorted((ROOT / RESULTS).rglob("*")) if _stem(path).startswith(prefix)]
    tables = [path.read_text().strip() for path in found if path.suffix == ".md"]
    pictures = [f"![{path.stem}]({path.relative_to(ROOT).as_posix()})" for path in found if path.suffix == ".png"]
    return "\n\n".join([*tables, *pictures]) or NOT_MEASURED


def _stem(path: Path) -> str:
    return path.relative_to(ROOT / RESULTS).with_suffix("").as_posix()


def examples() -> str:
    """The examples with the first sentences of their docstrings."""
    scripts = [path for path in sorted((ROOT / "examples").glob("*.py")) if not path.name.startswith("_")]
    return table(
        ("run", "what it shows"),
        [(f"`python examples/{path.name}`", path.read_text().removeprefix('"""').splitlines()[0]) for path in scripts],
    )


def landscape() -> str:
    """The whole table."""
    header = (
        "method", "rule", "learns by", "output", "notes", "cost in the post", "cost here", "with own shares", "paper",
    )  # fmt: skip
    return table(
        header,
        [
            (
                f"[{row.name}](#{row.name})",
                row.rule,
                row.learning,
                row.output,
                row.notes,
                _number(row.published_cost),
                _number(row.cost),
                _number(row.shared),
                _with_links(row.reference),
            )
            for row in LANDSCAPE
        ],
    )


def one_by_one() -> str:
    """Every method under its rule: equation, what carries gradient, partial map, paper."""
    parts = []
    for rule in RULES:
        parts += [f"### {rule.capitalize()}", *(_entry(row) for row in LANDSCAPE if row.rule == rule)]
    return "\n\n".join(parts)


def _entry(row: Row) -> str:
    facts = [
        f"`fm.methods.{row.name}`: {_with_links(row.reference)}.",
        f"Gradient: {row.gradient}.",
        *_limits(row),
    ]
    bibtex = "\n".join(f"    {line}".rstrip() for line in row.bibtex.strip().splitlines())
    return (
        f"#### {row.name}\n\n```text\n{row.equation.strip()}\n```\n\n{' '.join(facts)}\n\n"
        f'??? quote "BibTeX"\n\n    ```bibtex\n{bibtex}\n    ```'
    )


def _limits(row: Row) -> Iterable[str]:
    if row.data_free:
        yield "It sees no data."
    if row.only_source is not None:
        yield f"A partial map: it starts from s = {row.only_source:g} only."
    if row.only_target is not None:
        yield f"A partial map: it goes to t = {row.only_target:g} only."
    if row.few_step > 1:
        yield f"Made for {row.few_step} jumps, not for one."


def gradients() -> str:
    """What carries gradient, for every method: in words, and by the probes of the tests."""
    tested = _table_of_the_tests(ROOT / "tests/methods/test_gradients.py")
    return table(
        ("method", "what carries gradient", "value", "slope in time", "slope in space", "diagonal"),
        [(f"`fm.methods.{row.name}`", row.gradient, *tested[row.name]) for row in LANDSCAPE],
    )


def _table_of_the_tests(path: Path) -> dict[str, list[str]]:
    """TABLE, method -> (YES or NO, ...), read without running the test."""
    assignments = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign)]
    [text] = [ast.unparse(node.value) for node in assignments if ast.unparse(node.targets[0]) == "TABLE"]
    return eval(text, {"YES": "✓", "NO": ""})


def costs(*names: str) -> str:
    """Some rows of the landscape: what they learn from, what they cost, what is particular."""
    rows = {row.name: row for row in LANDSCAPE}
    return table(
        ("method", "rule", "learns by", "passes per step", "with own shares", "notes"),
        [
            (f"`fm.methods.{n}`", r.rule, r.learning, _number(r.cost), _number(r.shared), r.notes)
            for n, r in ((name, rows[name]) for name in names)
        ],
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, columns of numbers to the right."""
    numeric = [all(re.fullmatch(r"[\d.]*", cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [header, ["---:" if right else "---" for right in numeric], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _with_links(reference: str) -> str:
    return re.sub(r"arXiv (\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", reference)


INSERTS: dict[str, Callable[..., str]] = {
    make.__name__: make for make in (file, results, examples, landscape, one_by_one, gradients, costs)
}
