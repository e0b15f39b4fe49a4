"""Scores one run through lm-eval. Imports stages and below."""
