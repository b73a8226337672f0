"""The decode sandbox: `decode` in confined child processes.

pool      takes a request, lends it a child, replaces what is lost     (this side)
process   one child as its parent sees it                              (this side)
crashes   which bytes have crashed children before                     (this side)
wire      what is said between the two, and checked
child     decodes, and nothing else                                    (the other side)
confine   what the kernel no longer lets a child do                    (the other side)
"""

from .pool import Sandbox as Sandbox
