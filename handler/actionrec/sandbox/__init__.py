"""The decode sandbox: `decode.windows` in confined child processes.

On the worker's side:

pool            gives a request to a child and returns the child's windows
keeper          has fresh children ready, and ends the others
zygote_process  the zygote, as a process that is started, asked and ended
child_process   the same of a child; slot: the memory that is shared with it
patience        how long a child may take
schema          checks what a child sends; stderr: reads what it writes to its standard error
failures        remembers files that have ended children before
wire            the messages between the two sides, and their checks

On the other side:

zygote          forks children; it never sees a video
child           decodes, and nothing else
confine         what the kernel no longer lets these two do
"""

from .pool import Caller as Caller
from .pool import Sandbox as Sandbox
