"""`python -m flowmaps` and `flowmaps`: the command line."""

import sys


def main() -> int:
    """Run the command of this process; without the packages of the command line, say their names."""
    try:
        from .cli import main as run
    except ImportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return run()


if __name__ == "__main__":
    raise SystemExit(main())
