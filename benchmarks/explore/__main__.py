"""python -m benchmarks.explore"""

from benchmarks.explore import main

main()
