"""python -m benchmarks.likelihood"""

from benchmarks.likelihood import main

main()
