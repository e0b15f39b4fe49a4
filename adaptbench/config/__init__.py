"""Presets: their schema, how they are loaded and validated. Imports io and below."""
