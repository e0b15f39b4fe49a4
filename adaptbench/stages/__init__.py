"""Runs one stage of the graph and writes its directory. Imports train, agent, latent and below."""
