"""Benchmarks: scripts with a committed table each, `python -m benchmarks.NAME`. All figures of a table come from one
run, its contestants taking turns, because machines are noisy: compare within a table, never across."""
