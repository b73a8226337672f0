"""SlowFast action recognition: the bytes of a clip -> labels. Contains no server."""
