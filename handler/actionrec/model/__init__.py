"""Frames -> scores: with the pipeline, the one place that needs torch."""
