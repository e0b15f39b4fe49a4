"""The training loop and its parts. Imports model and below."""
