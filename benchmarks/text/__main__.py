"""python -m benchmarks.text"""

from benchmarks.text import main

main()
