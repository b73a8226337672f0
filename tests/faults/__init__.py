"""Faults and load on a real server, seeded, for as long as asked: ``python -m tests.faults --help``."""
