"""Compares what papers report with what we measure: benchmarks/<track>/papers/*.yaml, in tables/paper.*."""
