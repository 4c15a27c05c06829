"""python -m benchmarks.manifolds"""

from benchmarks.manifolds import main

main()
