"""The bytes of a video -> frames, with PyAV and OpenCV. No torch, and nothing of a server."""
