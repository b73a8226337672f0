"""The image: what it is built from, and what brings archives into it."""
