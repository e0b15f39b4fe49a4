"""Presets: their schema, and how they are loaded and validated. Imports io and below."""
