"""Videos of any length: cut into parts without decoding, sent, and put together again."""
