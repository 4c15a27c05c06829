"""Fill the pages with tables from the library and from measurements when the site is built.

A line `<!-- name arguments -->` of a page is replaced by the result of the function of that name in `INSERTS`. Names
such as `fm.methods.imf` in backticks become links to the API pages.
"""

from __future__ import annotations

import functools
import inspect
import pkgutil
import posixpath
import re
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import typeset
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import flowmaps
import flowmaps.reports
from flowmaps.methods import BEYOND, DISCRETE, DISTRIBUTIONAL, LANDSCAPE, MANIFOLDS, Row
from flowmaps.methods.landscape import FAMILIES, rows_of
from flowmaps.methods.variants import VARIANTS

ROOT = Path(__file__).parent.parent
RESULTS = Path("benchmarks/results")
TORCH = {
    "torch.Tensor": "tensors.html#torch.Tensor",
    "torch.Generator": "generated/torch.Generator.html",
    "torch.device": "tensor_attributes.html#torch.device",
    "torch.dtype": "tensor_attributes.html#torch.dtype",
    "torch.nn.Module": "generated/torch.nn.Module.html",
    "torch.nn.modules.module.Module": "generated/torch.nn.Module.html",
    "torch.optim.Optimizer": "optim.html#torch.optim.Optimizer",
}
"""Pages of torch's documentation by name."""
NOT_MEASURED = "*This has not been measured in this version.*"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pictures of the benchmarks, the examples as texts, and the page of the post to the site."""
    for picture in sorted((ROOT / RESULTS).rglob("*.png")):
        files.append(File.generated(config, picture.relative_to(ROOT).as_posix(), abs_src_path=str(picture)))
    for script in sorted((ROOT / "examples").glob("*.py")):
        files.append(File.generated(config, f"examples/{script.name}.txt", abs_src_path=str(script)))
    with tempfile.TemporaryDirectory() as folder:
        page = flowmaps.reports.explore(Path(folder) / "post.html").read_text()
    files.append(File.generated(config, "explore/post.html", content=page))
    return files


def on_pre_build(config: MkDocsConfig) -> None:
    """Link the names of torch in signatures to its documentation, without asking its server for a list of them."""
    autorefs: Any = config.plugins["autorefs"]
    for name, page in TORCH.items():
        autorefs.register_url(name, f"https://docs.pytorch.org/docs/stable/{page}")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace the marked lines, typeset the formulas, then link the names."""
    markdown = re.sub(r"\]\(\.\./examples/(\w+\.py)\)", r"](examples/\1.txt)", markdown)
    filled = re.sub(r"^<!-- (\w+) ?(.*?) -->$", lambda mark: INSERTS[mark[1]](*mark[2].split()), markdown, flags=re.M)
    filled = re.sub(r"^```formula\n(.*?)^```$", lambda block: typeset.to_table(block[1]), filled, flags=re.M | re.S)
    text_and_code = re.split(r"(^ *```.*?^ *```$)", filled, flags=re.M | re.S)
    text_and_code[::2] = [
        re.sub(r"(?<![\[`])`((?:fm|flowmaps)(?:\.\w+)+)`(?![\]`])", _linked, text) for text in text_and_code[::2]
    ]
    return "".join(text_and_code)


def _linked(name: re.Match[str]) -> str:
    return f"[`{name[1]}`][{home(name[1])}]"


def home(name: str) -> str:
    """Full name of an object where it is defined; the API pages use it as anchor."""
    found = resolve(name)
    if isinstance(found, ModuleType):
        return found.__name__
    if inspect.isroutine(found) or inspect.isclass(found):
        return f"{found.__module__}.{found.__qualname__}"
    head, _, last = name.rpartition(".")
    if head != "fm" and isinstance(module := resolve(head), ModuleType):
        return f"{module.__name__}.{last}"
    return re.sub(r"^fm\.", "flowmaps.", name)


def resolve(name: str) -> Any:
    """Find the object named `flowmaps.times.gap` or `fm.times.gap`."""
    first, *rest = name.split(".")
    return functools.reduce(getattr, rest, flowmaps) if first == "fm" else pkgutil.resolve_name(name)


def file(path: str) -> str:
    """Insert a file of the repository, with its links relative to the top of the site."""
    return relink((ROOT / path).read_text(), posixpath.dirname(path))


def relink(markdown: str, folder: str) -> str:
    """Make the links of a text in a folder of the repository relative to the top of the site."""

    def relinked(link: re.Match[str]) -> str:
        bang, text, target = link.groups()
        if re.match(r"[a-z]+:|#", target):
            return link[0]
        there = posixpath.normpath(posixpath.join(folder, target))
        if there.startswith("docs/") or there.endswith(".png"):
            return f"{bang}[{text}]({there.removeprefix('docs/')})"
        return text

    return re.sub(r"(!?)\[([^\]\n]*)\]\(([^)\s]+)\)", relinked, markdown)


def results(prefix: str, *otherwise: str) -> str:
    """Insert the tables and pictures of a benchmark, or a sentence, such as `otherwise`, if it has not been run."""
    found = [path for path in sorted((ROOT / RESULTS).rglob("*")) if _stem(path).startswith(prefix)]
    tables = [path.read_text().strip() for path in found if path.suffix == ".md"]
    pictures = [f"![{path.stem}]({path.relative_to(ROOT).as_posix()})" for path in found if path.suffix == ".png"]
    return "\n\n".join([*tables, *pictures]) or " ".join(otherwise) or NOT_MEASURED


def _stem(path: Path) -> str:
    return path.relative_to(ROOT / RESULTS).with_suffix("").as_posix()


def examples() -> str:
    """List the examples with the first line of their docstrings."""
    scripts = [path for path in sorted((ROOT / "examples").glob("*.py")) if not path.name.startswith("_")]
    return table(
        ("command", "content"),
        [(f"`python examples/{path.name}`", path.read_text().removeprefix('"""').splitlines()[0]) for path in scripts],
    )


def extras() -> str:
    """The extras with the lowest versions of their packages, from pyproject.toml, and their uses, from the README."""
    text = relink((ROOT / "README.md").read_text().partition("## Extras")[2], "")
    uses = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", text, flags=re.M))
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    return table(
        ("extra", "packages", "for"),
        [(f"`{name}`", ", ".join(map(_requirement, packages)), uses[name]) for name, packages in declared.items()],
    )


def _requirement(text: str) -> str:
    """A requirement in words, without its marker; extras of this package by their names."""
    name, extra, bound = re.match(r"([\w-]+)(?:\[([\w,]+)\])?(?:>=([\d.]+))?", text).groups()  # type: ignore[union-attr]
    if name == "flowmaps":
        return ", ".join(f"`{one}`" for one in extra.split(","))
    return f"{name} {bound}" if bound else name


def landscape() -> str:
    """The table of all methods."""
    return _rows(LANDSCAPE)


def beyond() -> str:
    """The table of the methods beyond the post's landscape."""
    return _rows(BEYOND)


def beyond_one_by_one() -> str:
    """Each of them: equation, gradient flow, paper."""
    return "\n\n".join(map(_entry, BEYOND))


def discrete() -> str:
    """The table of the methods of discrete data."""
    return _rows(DISCRETE)


def discrete_one_by_one() -> str:
    """Each of them: equation, gradient flow, paper."""
    return "\n\n".join(map(_entry, DISCRETE))


def manifolds() -> str:
    """The table of the methods of maps on manifolds."""
    return _rows(MANIFOLDS)


def manifolds_one_by_one() -> str:
    """Each of them: equation, gradient flow, paper."""
    return "\n\n".join(map(_entry, MANIFOLDS))


def distributional() -> str:
    """The table of the methods that match distributions."""
    return _rows(DISTRIBUTIONAL)


def distributional_one_by_one() -> str:
    """Each of them: equation, gradient flow, paper."""
    return "\n\n".join(map(_entry, DISTRIBUTIONAL))


def _rows(rows: Sequence[Row]) -> str:
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
            for row in rows
        ],
    )


def one_by_one() -> str:
    """Every method under its rule: equation, gradient flow, limits, paper."""
    parts = []
    for rule in dict.fromkeys(row.rule for row in LANDSCAPE):
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
        f"#### {row.name}\n\n{typeset.to_mathml(row.equation)}\n\n{' '.join(facts)}\n\n"
        f'??? quote "BibTeX"\n\n    ```bibtex\n{bibtex}\n    ```'
    )


def _limits(row: Row) -> Iterable[str]:
    if row.data_free:
        yield "It learns without data."
    if row.only_source is not None:
        yield f"The map is partial: it starts only from s = {row.only_source:g}."
    if row.only_target is not None:
        yield f"The map is partial: it jumps only to t = {row.only_target:g}."
    if row.few_step > 1:
        yield f"It is designed for {row.few_step} jumps instead of one."


def gradients() -> str:
    """The parts that carry gradient in every method: in words, and as the tests measure them with probes."""
    return table(
        ("method", "parts that carry gradient", *COLUMNS.values()),
        [
            (f"`fm.methods.{row.name}`", row.gradient, *("✓" if part in row.gradient_of else "" for part in COLUMNS))
            for row in LANDSCAPE
        ],
    )


COLUMNS = {
    "value": "value",
    "time": "derivative in time",
    "space": "derivative in space",
    "diagonal": "diagonal",
    "teacher": "teacher's input",
}


def costs(choice: str) -> str:
    """The methods of one of `CHOICES`: learning, cost, notes."""
    return table(
        ("method", "rule", "learns by", "passes per step", "with own shares", "notes"),
        [
            (f"`fm.methods.{row.name}`", row.rule, row.learning, _number(row.cost), _number(row.shared), row.notes)
            for row in LANDSCAPE
            if CHOICES[choice](row)
        ],
    )


CHOICES: dict[str, Callable[[Row], bool]] = {
    "from_scratch": lambda row: not (row.needs_teacher or row.coupled or row.rule == "diffusion"),
    "from_a_teacher": lambda row: (row.needs_teacher or row.coupled) and row.only_source is None,
    "from_noise_alone": lambda row: row.only_source == 1.0,
    "without_derivative": lambda row: (
        row.rule != "diffusion" and "derivative" not in inspect.signature(row.build).parameters
    ),
}


def methods(*families: str) -> str:
    """The methods of some files in `flowmaps/methods`, as a sentence."""
    rows = {family.__name__.rpartition(".")[2]: rows_of(family) for family in FAMILIES}
    named = [
        f"`flowmaps/methods/{family}.py`: {', '.join(f'`flowmaps.methods.{row.name}`' for row in rows[family])}"
        for family in families
    ]
    return f"*In the library:* {'; '.join(named)}."


def variants() -> str:
    """The papers' own settings, as functions."""
    header = ("variant", "of", "origin", "settings", "cost", "with own shares")
    return table(
        header,
        [
            (
                f"`fm.methods.variants.{row.name}`", f"`fm.methods.{row.of}`", row.setting, row.sets,
                _number(row.cost), _number(row.shared),
            )
            for row in VARIANTS
        ],
    )  # fmt: skip


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with right-aligned columns of numbers."""
    numeric = [all(re.fullmatch(r"[\d.]*", cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [header, ["---:" if right else "---" for right in numeric], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _with_links(reference: str) -> str:
    return re.sub(r"arXiv (\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", reference)


INSERTS: dict[str, Callable[..., str]] = {
    make.__name__: make
    for make in (
        file,
        results,
        examples,
        landscape,
        one_by_one,
        beyond,
        beyond_one_by_one,
        discrete,
        discrete_one_by_one,
        manifolds,
        manifolds_one_by_one,
        distributional,
        distributional_one_by_one,
        gradients,
        costs,
        methods,
        extras,
        variants,
    )
}
