"""Figures of runs and tables."""
