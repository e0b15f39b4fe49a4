"""How jobs share one machine: GPUs, and a process that has imported the heavy libraries. Imports io and below."""
