"""The parts of `benchmarks/on_gpu.py`, one a file; each runs in a process of its own and yields what it found as it finds it."""
