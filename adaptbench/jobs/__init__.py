"""Shares one machine between jobs: GPUs, and a process that has imported the heavy libraries. Imports io and below."""
