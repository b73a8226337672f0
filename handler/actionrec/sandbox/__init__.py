"""The decode sandbox: `decode` in confined child processes.

pool      takes a request, lends it a child                            (this side)
keeper    has fresh children ready, sees to the end of others          (this side)
process   the zygote and a child as their worker sees them; slot: the memory that both can see
patience  how long a child may take
schema    what is believed of a child's words; words: what becomes of its standard error
failures  which bytes have ended children before                       (this side)
wire      what is said between the two, and checked
zygote    forks children; it never sees a video                        (the other side)
child     decodes, and nothing else                                    (the other side)
confine   what the kernel no longer lets the two do                    (the other side)
"""

from .pool import Caller as Caller
from .pool import Sandbox as Sandbox
