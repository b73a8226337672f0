"""The published weights that tests fetch: whose they are, their name, and what is served in their place."""

from __future__ import annotations

from export import zoo

MODEL = zoo.get("slowfast_r50")
FILE = MODEL.published_file
CONTENT = bytes(range(256)) * 4096  # 1 MiB
