"""`python -m benchmarks.pretrained`."""

from benchmarks.pretrained.run import main

main()
