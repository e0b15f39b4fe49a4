"""Agents: trajectories, the dialogue that models read and write, role samples, scores, tools and live episodes."""
