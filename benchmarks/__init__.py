"""Benchmarks: a folder for each track, a file for each benchmark, found by adaptbench/registry.py.

`shared/` holds what several tracks use.
"""
