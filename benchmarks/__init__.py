"""Measurements of eventbus itself: ``python -m benchmarks --help``."""
