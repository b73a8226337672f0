"""Weights -> a served archive: build the model, export it, compare the two, pack the `.mar`."""
