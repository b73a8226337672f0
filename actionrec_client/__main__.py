"""``python -m actionrec_client``."""

from .cli import main

if __name__ == "__main__":
    main()
