"""Fuzzing of all that is let in: containers, decoders, and the project's own decoding code. ``make fuzz``.

seeds       valid files of every container and codec, made here or kept in tests/seeds; what was found before
case        one input: a file, and which part of it is asked for
blind       number `i` of seed `s` is always the same broken file (tests/test_fuzz.py)
pieces      files as pieces (boxes, elements, chunks, tags, pages), and back with right sizes and checksums
layout      how each container is taken apart into them
mutations   another file out of one or two
feedback    one file decoded: what became of it, and at what cost; what of that is new behaviour or a finding
target      libFuzzer's process: a corpus that grows by Python coverage and by FFmpeg's behaviour
apart       the same in a process of its own, which may die of it
shrink      the smallest file that still does what was found
store       what is kept on disk: corpus, findings, counts
keep        a small input into tests/seeds/found, with its outcome
loop        targets one after the other, and what is made of their findings
"""
