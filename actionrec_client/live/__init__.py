"""A live stream, window by window, to a served model: what ``python -m actionrec_client stream`` is made of.

source -> reader thread -> rolling window -> mailbox of one -> clip -> server -> lines, table, picture
(PyAV)    frames at the    (sampling.py)     (newest wins)     (mp4)
          model's size
"""
