"""Atomic writes, strict reading, the hub, model folders and the formats of results.

Imports only contracts, errors and tasks.
"""
