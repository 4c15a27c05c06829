"""Run the benchmarks, or the named ones:  python -m benchmarks [cost] [digits] [digits_parts] [checkerboard] ...

`one_step` takes a day, `text`, `manifolds` and `alternatives` hours: they run only when they are named.
"""

import sys
from importlib import import_module

NAMES = (
    "cost",
    "digits",
    "digits_parts",
    "guided_digits",
    "guided_scales",
    "pretrained",
    "checkerboard",
    "landscape",
    "steering_beds",
    "steering",
    "likelihood_beds",
    "likelihood",
    "own_folder",
)
LONG = ("one_step", "text", "manifolds", "alternatives")


def main() -> None:
    """Run the benchmarks named on the command line, each with its own defaults."""
    chosen = sys.argv[1:] or list(NAMES)
    unknown = [name for name in chosen if name not in (*NAMES, *LONG)]
    if unknown:
        raise SystemExit(f"unknown benchmark {unknown[0]!r}; known are {', '.join([*NAMES, *LONG])}")
    sys.argv = sys.argv[:1]
    for name in chosen:
        print(f"== {name}", flush=True)
        import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main()
