"""Pictures of the gallery and of the pages: run every example, and keep its picture small in docs/images/gallery/.

    python examples/gallery.py                         # all of them, one after another, about half an hour
    python examples/gallery.py 02_flow_map 21_text     # some of them
    python examples/gallery.py --drawn                 # no example runs: the pictures that are in runs/examples/

The examples write large pictures. Here they get the width of a page and a palette, and are compressed until they have
at most 58 KB. Their background is white, so that they are readable on light and dark pages.
"""

import argparse
import runpy
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
DRAWN, GALLERY = Path("runs/examples"), HERE.parent / "docs/images/gallery"
LARGEST = 58_000
"""Most bytes of a picture."""
SIZES = ((1000, 128), (1000, 64), (900, 64), (800, 32), (700, 32), (600, 32))
"""Widths in pixels with numbers of colours, in the order in which they are tried."""


def examples():
    """Names of all examples in the order of the gallery."""
    return sorted(path.stem for path in HERE.glob("[0-9][0-9]_*.py"))


def small(path):
    """The bytes of a PNG file of a picture with the width of a page, and its width."""
    large = Image.open(path).convert("RGB")
    for width, colours in SIZES:
        width = min(width, large.width)
        picture = large.resize((width, round(large.height * width / large.width)), Image.Resampling.LANCZOS)
        file = BytesIO()
        picture.quantize(colours, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(file, "png", optimize=True)
        if file.tell() <= LARGEST:
            break
    return file.getvalue(), width


def main(names, drawn):
    GALLERY.mkdir(parents=True, exist_ok=True)
    for name in names:
        if not drawn:
            sys.argv = [name, "--out", str(DRAWN / f"{name}.png")]
            runpy.run_path(str(HERE / f"{name}.py"), run_name="__main__")
        content, width = small(DRAWN / f"{name}.png")
        (GALLERY / f"{name}.png").write_bytes(content)
        print(f"{name:<28}{width} pixels wide, {len(content) / 1000:.0f} KB", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="examples, such as 02_flow_map (default: all)")
    parser.add_argument("--drawn", action="store_true", help="take the pictures in runs/examples/, and run no example")
    options = parser.parse_args()
    if unknown := set(options.names) - set(examples()):
        parser.error(f"there is no example {', '.join(sorted(unknown))}; there are {', '.join(examples())}")
    main(options.names or examples(), options.drawn)
