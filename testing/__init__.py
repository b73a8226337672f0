"""Clips and references that tests, benchmarks and examples share."""
