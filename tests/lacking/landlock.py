"""Without `landlock`."""

from tests.lacking import without

if __name__ == "__main__":
    without("_no_files")
