"""Without `no_capabilities`."""

from tests.lacking import without

if __name__ == "__main__":
    without("_drop_capabilities")
