"""The source of a few classes and functions with all they need of this package, gathered into one file.

What is exported must run where flowmaps is not installed. A copy of every network, kept beside the network, would drift
away from it; the definitions themselves cannot. Names stay as they are, and so do docstrings and comments inside
definitions; left out are class methods, which make objects that training starts from.
"""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

PACKAGE = __name__.split(".")[0]
INSTEAD = {
    (f"{PACKAGE}.networks.layers", "checkpointed"): (
        'def checkpointed(layer, *inputs):\n    """layer(*inputs): nothing is trained."""\n    return layer(*inputs)'
    )
}
"""Definitions that only training needs, and what stands for them."""
LEFT_OUT = {"describable", "classmethod"}
"""Decorators: the first is dropped, and what has the second is dropped whole."""

Name = tuple[str, str]  # a module and a name in it


@dataclass(frozen=True)
class Module:
    """A parsed module: its text, the top-level statement that defines each name, and where imported names are from."""

    lines: list[str]
    statements: dict[str, ast.stmt]
    imports: dict[str, Name]

    def text(self, statement: ast.AST, without: tuple[ast.AST, ...] = ()) -> str:
        """The source of a statement, less that of some parts of it."""
        first, last = _span(statement)
        dropped = {line for part in without for line in range(*_with_blank_lines(_span(part), self.lines))}
        return "\n".join(self.lines[i] for i in range(first, last) if i not in dropped)


@dataclass
class _Gathered:
    imports: dict[str, Name] = field(default_factory=dict)
    definitions: dict[str, Name] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)


def gathered(names: list[Name]) -> str:
    """One self-contained module that defines `names`, pairs (module, name) of this package.

    Raises ValueError where two different things of the same name are needed.
    """
    found = _Gathered()
    for name in names:
        _gather(name, found)
    lines = sorted(_import_line(name, *source) for name, source in found.imports.items())
    return "\n".join(["from __future__ import annotations", "", *lines, "", "", "\n\n\n".join(found.texts), ""])


def _gather(wanted: Name, found: _Gathered) -> None:
    """Add a definition after the definitions that it needs."""
    module_name, name = wanted = _home(wanted)
    if name in found.definitions:
        if found.definitions[name] != wanted:
            raise ValueError(
                f"two definitions of {name!r} are needed: of {found.definitions[name][0]} and {module_name}"
            )
        return
    found.definitions[name] = wanted
    if wanted in INSTEAD:
        found.texts.append(INSTEAD[wanted])
        return
    module = parsed(module_name)
    statement = module.statements[name]
    text, needed = _trimmed(module, statement)
    for other in needed:
        if other in module.statements:
            _gather((module_name, other), found)
        elif other in module.imports:
            source, attribute = module.imports[other]
            if source.split(".")[0] == PACKAGE:
                _gather((source, attribute), found)
            else:
                found.imports[other] = (source, attribute)
    found.texts.append(text)


def _trimmed(module: Module, statement: ast.stmt) -> tuple[str, list[str]]:
    """The text of a statement that is kept, and the names that it uses, in order."""
    dropped: list[ast.AST] = []
    for node in [statement, *getattr(statement, "body", [])]:
        marks = {d.id: d for d in getattr(node, "decorator_list", []) if isinstance(d, ast.Name) and d.id in LEFT_OUT}
        if "classmethod" in marks:
            dropped.append(node)
        elif marks:
            dropped += marks.values()
    gone = {part for node in dropped for part in ast.walk(node)}
    kept = [node for node in _walk(statement, gone) if isinstance(node, ast.Name)]
    return module.text(statement, tuple(dropped)), list(dict.fromkeys(node.id for node in kept))


def _walk(node: ast.AST, gone: set[ast.AST]) -> list[ast.AST]:
    if node in gone:
        return []
    return [node, *(inner for child in ast.iter_child_nodes(node) for inner in _walk(child, gone))]


@cache
def parsed(name: str) -> Module:
    """A module of this package, read and not run."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None
    text = Path(spec.origin).read_text(encoding="utf-8")
    package = name if spec.submodule_search_locations else name.rpartition(".")[0]
    statements: dict[str, ast.stmt] = {}
    imports: dict[str, Name] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom):
            source = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            imports |= {alias.asname or alias.name: (source, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            imports |= {alias.asname or alias.name: (alias.name, "") for alias in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            statements[node.name] = node
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            statements |= {target.id: node for target in targets if isinstance(target, ast.Name)}
    return Module(text.split("\n"), statements, imports)


def _home(name: Name) -> Name:
    """Where a name is defined, through the modules that only pass it on."""
    module = parsed(name[0])
    if name[1] in module.statements:
        return name
    if name[1] not in module.imports:
        raise ValueError(f"{name[0]} defines no {name[1]!r}")
    return _home(module.imports[name[1]])


def _span(node: ast.AST) -> tuple[int, int]:
    """First line, with decorators, and the line after the last."""
    marks = getattr(node, "decorator_list", [])
    return min([node.lineno, *(mark.lineno for mark in marks)]) - 1, node.end_lineno  # type: ignore[attr-defined]


def _with_blank_lines(span: tuple[int, int], lines: list[str]) -> tuple[int, int]:
    """A part and the blank lines before it."""
    first, last = span
    while not lines[first - 1].strip():
        first -= 1
    return first, last


def _import_line(name: str, source: str, attribute: str) -> str:
    if attribute:
        return f"from {source} import {attribute}" + (f" as {name}" if name != attribute else "")
    return f"import {source}" + (f" as {name}" if name != source else "")
