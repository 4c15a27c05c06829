"""Gather the source of classes and functions, with everything that they use of this package, into one file.

An exported network must run without flowmaps. Gathered definitions cannot become outdated, unlike a copy of each
network beside its source. Names, docstrings and comments inside definitions are kept. Class methods are left out,
because they make networks for training.
"""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass, field
from functools import cache, lru_cache
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
"""Replacements of definitions that need more of this package than sampling does."""
LEFT_OUT = {"describable", "classmethod"}
"""Decorators: the first is removed, and functions with the second are left out."""
TRAINING = {"fit", "roughness", "checkpointed"}
"""Methods that are left out."""

Name = tuple[str, str]  # a module and a name in it


@dataclass(frozen=True)
class Module:
    """A parsed module.

    Attributes:
        lines: Its text.
        statements: The top-level statement that defines each name.
        imports: The origin of each imported name.
        package: Whether it is a package.
    """

    lines: list[str]
    statements: dict[str, ast.stmt]
    imports: dict[str, Name]
    package: bool


@dataclass
class Gathered:
    """The content of the gathered file.

    Attributes:
        imports: Imports of other packages by name.
        names: Name of each definition in the file.
        texts: Texts of the definitions, in order.
    """

    imports: dict[str, Name] = field(default_factory=dict)
    names: dict[Name, str] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)

    def take(self, wanted: Name) -> str:
        """Choose a free name for a definition: its own, or with its module if that is taken."""
        module, name = wanted
        taken = {*self.names.values(), *self.imports}
        self.names[wanted] = name if name not in taken else f"{name}_of_{module.rpartition('.')[2]}"
        return self.names[wanted]


@lru_cache(maxsize=64)
def gathered(*wanted: Name) -> str:
    """Write one self-contained module that defines all `wanted` under their names.

    A definition that they use is renamed if its name is taken.

    Args:
        wanted: Pairs (module, name) of this package.

    Returns:
        The source.

    Raises:
        ValueError: For two wanted definitions of one name, and for a name that its module does not define.
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
    """Add a definition after the definitions that it uses; return its name in the file."""
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
    """Return the parts of a statement that are left out, and the names that the other parts use, in order."""
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
    """Write a statement without the parts that are left out, with renamed names."""
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
    """Parse a module of this package without importing it."""
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
    """Find the module that defines a name, through modules that only import it."""
    module = parsed(name[0])
    if name[1] in module.statements:
        return name
    if importlib.util.find_spec(f"{name[0]}.{name[1]}") if module.package else None:
        raise ValueError(f"{name[0]}.{name[1]} is a module: exported code must import the names that it uses")
    if name[1] not in module.imports:
        raise ValueError(f"{name[0]} defines no {name[1]!r}")
    return _home(module.imports[name[1]])


def _span(node: ast.AST) -> tuple[int, int]:
    """Return the first line of a statement, with decorators, and the line after the last."""
    marks = getattr(node, "decorator_list", [])
    return min([node.lineno, *(mark.lineno for mark in marks)]) - 1, node.end_lineno  # type: ignore[attr-defined]


def _with_blank_lines(span: tuple[int, int], lines: list[str]) -> tuple[int, int]:
    """Extend a span by the blank lines before it."""
    first, last = span
    while not lines[first - 1].strip():
        first -= 1
    return first, last


def import_line(name: str, source: str, attribute: str) -> str:
    """Write an import statement.

    Args:
        name: The imported name.
        source: The module.
        attribute: The name in the module; "" for the module itself.

    Returns:
        The statement.
    """
    if attribute:
        return f"from {source} import {attribute}" + (f" as {name}" if name != attribute else "")
    return f"import {source}" + (f" as {name}" if name != source else "")
