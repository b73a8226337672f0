"""A trunk in int8 for CPUs: convolutions of bytes, everything between them in generated code.

steps      the network as a list of convolutions, additions, concatenations and pools; another is refused
ranges     what each of them gives on calibration clips
layers     a convolution of bytes by oneDNN, and one that stays in floating point
trunk      the steps with bytes between them
choose     how much wider than the ranges, and which convolutions stay in floating point
"""
