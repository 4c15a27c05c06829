"""python -m benchmarks.steering"""

from benchmarks.steering import main

main()
