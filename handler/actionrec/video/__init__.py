"""Bytes of a video -> frames: PyAV and OpenCV, no torch, and nothing that a server knows."""
