"""Latent tokens: where they go, what they are, and passes through a model that holds some."""
