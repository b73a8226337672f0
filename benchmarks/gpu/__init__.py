"""The checks of a GPU host (``scripts/gpu-check``): right first, then fast, then served.

plan      what is checked and measured, in full or as a rehearsal on the CPU
record    the rows of a stage, in a file that is whole after each of them
child     a process for what may run out of memory, hang or crash
forms     the model in one runtime and precision; form_process, eager: the same in such a process
host      the machine, by what it says of itself
correct, figures, served    the stages;  tests, parts, clients, goals, roofline: what they are made of
pack      what a machine without a network lacks (``scripts/gpu-pack``)
"""
