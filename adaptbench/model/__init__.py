"""Models: loading, forward passes, parameters, layers, what they can do. Imports data and below."""
