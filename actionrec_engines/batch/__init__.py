"""Millions of videos on a cluster: names -> digests -> groups of equal ones -> results.

    listing    names/00000.arrow     what the user named, a shard at a time
    hashing    hashed/00000.arrow    the sha256 of each video, by group
    grouping   grouped/00000.arrow   each content once with all its names, by part
    computing  part-000000.parquet   the results

Which content is in which part is decided by its digest alone. A part has a name of its own, and is there whole
or not at all. So what is done twice, after a crash or beside a process that was thought dead, gives the same
file again. What is there need not be done. Nobody holds all names or digests in memory.
"""
