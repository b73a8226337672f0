"""The same requests to every engine, and the one reply that each of them has; a new engine is one fixture."""
