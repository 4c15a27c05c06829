"""python -m benchmarks.alternatives"""

from benchmarks.alternatives import main

main()
