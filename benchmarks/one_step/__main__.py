"""python -m benchmarks.one_step"""

from benchmarks.one_step import main

main()
