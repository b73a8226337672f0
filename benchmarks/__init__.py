"""Measurements that anyone can repeat (``make bench``): ratios within one run, printed and written as JSON."""
