"""`python -m benchmarks.pretrained`."""

from .run import main

main()
