"""Benchmarks: a folder for each track, a file for each benchmark, found by adaptbench/registry.py. `shared/` is for all tracks."""
