"""What papers report beside what we measure: benchmarks/<track>/papers/*.yaml, compared in tables/paper.*."""
