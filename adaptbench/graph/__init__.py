"""The graph of stages that a preset unfolds into, and the functions that the Snakefile calls.

Plain Python without torch. Imports config, jobs and below.
"""
