"""SlowFast action recognition: from the bytes of a clip to labels, with no server in it."""
