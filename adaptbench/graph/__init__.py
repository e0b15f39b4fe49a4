"""The graph of stages that a preset unfolds into, and all that the Snakefile asks. Plain Python without torch. Imports config, jobs and below."""
