"""Decoding on the GPU: NVDEC decodes large videos, and what follows stays on the GPU up to the model's size.

decoder   `decode.windows` with what the GPU takes, and the rest left to whoever decodes otherwise
check     a clip of each codec decoded both ways, before any request
hardware  what is NVIDIA's: how files are opened, and how frames become tensors
convert   frames to the model's size and colours, as `video.resize` does it

Off unless it is asked for: videos reach FFmpeg in the worker and NVIDIA's driver, outside the sandbox.
"""

from .decoder import GpuDecoder as GpuDecoder
