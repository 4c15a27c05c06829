"""python -m benchmarks.cost"""

from benchmarks.cost import main

main()
