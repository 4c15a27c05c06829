"""The command line of benchmarks whose cells are models on data sets."""

from __future__ import annotations

import argparse
from collections.abc import Container, Iterable, Sequence
from pathlib import Path


def parser_of(
    text: str | None, sets: Iterable[str], models: Iterable[str], seconds: float, out: Path
) -> argparse.ArgumentParser:
    """The parser with the options that these benchmarks share; `parsed` uses it.

    Args:
        text: Docstring of the benchmark.
        sets: Names of the data sets.
        models: Names of the models.
        seconds: Usual time of a training.
        out: Usual folder of the results.

    Returns:
        The parser.
    """
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, known, title in (("--sets", sets, "data sets"), ("--models", models, "models")):
        parser.add_argument(name, default=",".join(known), help=f"{title}: {', '.join(known)} (default: all)")
    parser.add_argument("--seconds", type=float, default=seconds, help=f"of training (default: {seconds:g})")
    parser.add_argument("--tables", action="store_true", help="only rebuild tables and pictures from the results")
    parser.add_argument("--out", type=Path, default=out)
    return parser


def parsed(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None, sets: Container[str], models: Container[str]
) -> argparse.Namespace:
    """Parse arguments; `sets` and `models` become lists of known names.

    Raises:
        SystemExit: A name is not known.
    """
    options = parser.parse_args(arguments)
    for option, known in (("sets", sets), ("models", models)):
        names = getattr(options, option).split(",")
        if unknown := [name for name in names if name not in known]:
            raise SystemExit(
                f"{unknown[0]!r} is not known; known are {', '.join(parser.get_default(option).split(','))}"
            )
        setattr(options, option, names)
    return options
