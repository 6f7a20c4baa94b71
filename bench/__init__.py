"""Benchmarks: ours beside a baseline, in one process or one run, as ratios."""
