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
    ),
    (f"{PACKAGE}.students.time_layers", "time_layers_of"): (
        'def time_layers_of(network):\n    """The time layers that a network declares."""\n'
        "    return network.flow_map_places"
    ),
}
"""Definitions that only training needs, and what stands for them."""
LEFT_OUT = {"describable", "classmethod"}
"""Decorators: the first is dropped, and what has the second is dropped whole."""
TRAINING = {"fit", "roughness", "checkpointed"}
"""Methods that are dropped."""

Name = tuple[str, str]  # a module and a name in it


@dataclass(frozen=True)
class Module:
    """A parsed module: its text, the top-level statement that defines each name, and where imported names are from."""

    lines: list[str]
    statements: dict[str, ast.stmt]
    imports: dict[str, Name]
    package: bool


@dataclass
class Gathered:
    """What one file holds: external imports, the name in it of each definition, and the texts in their order."""

    imports: dict[str, Name] = field(default_factory=dict)
    names: dict[Name, str] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)

    def take(self, wanted: Name) -> str:
        """A free name for a definition: its own, or one with its module where that is taken."""
        module, name = wanted
        taken = {*self.names.values(), *self.imports}
        self.names[wanted] = name if name not in taken else f"{name}_of_{module.rpartition('.')[2]}"
        return self.names[wanted]


def gathered(wanted: list[Name]) -> str:
    """One self-contained module that defines all `wanted`, pairs (module, name) of this package, under their names.

    What they need and what has the name of another thing is renamed. Raises ValueError for two wanted of one name, and
    for a name that the module does not have.
    """
    found, homes = Gathered(), list(dict.fromkeys(_home(name) for name in wanted))
    for module, name in homes:
        if name in found.names.values():
            raise ValueError(f"two definitions of {name!r} are wanted: {', '.join(m for m, n in homes if n == name)}")
        found.names[module, name] = name
    done: set[Name] = set()
    for home in homes:
        _gather(home, found, done)
    lines = sorted(import_line(name, *source) for name, source in found.imports.items())
    return "\n".join(["from __future__ import annotations", "", *lines, "", "", "\n\n\n".join(found.texts), ""])


def _gather(wanted: Name, found: Gathered, done: set[Name]) -> str:
    """Add a definition, after the definitions that it needs; its name in the file."""
    wanted = _home(wanted)
    name = found.names.get(wanted) or found.take(wanted)
    if wanted in done:
        return name
    done.add(wanted)
    if wanted in INSTEAD:
        found.texts.append(INSTEAD[wanted])
        return name
    module = parsed(wanted[0])
    statement = module.statements[wanted[1]]
    dropped, nodes = _kept(statement)
    here = {}
    for used in dict.fromkeys(node.id for node in nodes):
        source = (wanted[0], used) if used in module.statements else module.imports.get(used)
        if source is None:
            continue
        if source[0].split(".")[0] == PACKAGE:
            here[used] = _gather(source, found, done)
        else:
            found.imports[used] = source
    found.texts.append(_text(module, statement, dropped, nodes, here | {wanted[1]: name}))
    return name


def _kept(statement: ast.stmt) -> tuple[list[ast.AST], list[ast.Name]]:
    """The parts of a statement that are dropped, and the names that the others use, in order."""
    dropped: list[ast.AST] = []
    for node in [statement, *getattr(statement, "body", [])]:
        marks = {d.id: d for d in getattr(node, "decorator_list", []) if isinstance(d, ast.Name) and d.id in LEFT_OUT}
        if "classmethod" in marks or (node is not statement and getattr(node, "name", None) in TRAINING):
            dropped.append(node)
        elif marks:
            dropped += marks.values()
    gone = {part for node in dropped for part in ast.walk(node)}
    return dropped, [node for node in _walk(statement, gone) if isinstance(node, ast.Name)]


def _walk(node: ast.AST, gone: set[ast.AST]) -> list[ast.AST]:
    if node in gone:
        return []
    return [node, *(inner for child in ast.iter_child_nodes(node) for inner in _walk(child, gone))]


def _text(
    module: Module, statement: ast.stmt, dropped: list[ast.AST], nodes: list[ast.Name], names: dict[str, str]
) -> str:
    """The source of a statement without what is dropped, its names changed where they differ."""
    lines = {i: module.lines[i] for i in range(*_span(statement))}
    changed = {old: new for old, new in names.items() if old != new}
    local = {node.arg for node in ast.walk(statement) if isinstance(node, ast.arg)}
    local |= {node.id for node in nodes if isinstance(node.ctx, ast.Store)} - {getattr(statement, "name", "")}
    if both := local & changed.keys():
        raise ValueError(f"{min(both)!r} is a variable beside a definition of that name: rename one of them")
    for node in sorted(nodes, key=lambda node: -node.col_offset):
        if node.id in changed:
            line = lines[node.lineno - 1].encode()
            start, end = node.col_offset, node.end_col_offset
            lines[node.lineno - 1] = (line[:start] + changed[node.id].encode() + line[end:]).decode()
    if (own := getattr(statement, "name", None)) in changed:
        first = statement.lineno - 1
        lines[first] = lines[first].replace(f" {own}", f" {changed[own]}", 1)
    gone = {line for part in dropped for line in range(*_with_blank_lines(_span(part), module.lines))}
    return "\n".join(line for i, line in lines.items() if i not in gone)


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
    return Module(text.split("\n"), statements, imports, bool(spec.submodule_search_locations))


def _home(name: Name) -> Name:
    """Where a name is defined, through the modules that only pass it on."""
    module = parsed(name[0])
    if name[1] in module.statements:
        return name
    if importlib.util.find_spec(f"{name[0]}.{name[1]}") if module.package else None:
        raise ValueError(f"{name[0]}.{name[1]} is a module: what is exported must import the names that it uses")
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


def import_line(name: str, source: str, attribute: str) -> str:
    if attribute:
        return f"from {source} import {attribute}" + (f" as {name}" if name != attribute else "")
    return f"import {source}" + (f" as {name}" if name != source else "")
