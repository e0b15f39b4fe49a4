"""Methods: tuners, curricula and post-hoc steps, a file for each, found by adaptbench/registry.py."""
