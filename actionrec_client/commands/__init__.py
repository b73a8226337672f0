"""The commands of ``actionrec``: a module each."""
