"""python -m benchmarks.speech"""

from benchmarks.speech import main

main()
