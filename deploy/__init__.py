"""The life of a TorchServe server: start, stop, status, scale, wait (``python -m deploy --help``)."""
