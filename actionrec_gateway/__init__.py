"""The gateway: one address before an engine for long work, videos by address and other platforms' contracts."""
