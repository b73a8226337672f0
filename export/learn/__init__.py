"""Labelled videos -> an archive with the user's own labels, and a report of how good it is.

data: folder, table or Label Studio's export -> examples
embed: examples -> embeddings of their windows, by the decoding and sampling that serve; kept in a cache
fit: embeddings -> one linear layer, its accuracy, its temperature and its threshold
assemble: the base archive's network with that layer -> archive
report: what came out, for people
"""
