"""Longest processing time first: the heaviest load first, each on the GPU with the least load so far.

Graham, "Bounds on Multiprocessing Timing Anomalies", SIAM Journal on Applied Mathematics 17(2), 1969. It
knows of memory only whether there is room.
"""

import numpy as np


def place(load, size_gb, gpus, memory_gb):
    loads, sizes = np.zeros(gpus), np.zeros(gpus)
    placement = [0] * len(load)
    for model in sorted(range(len(load)), key=lambda model: -load[model]):
        fits = sizes + size_gb[model] < memory_gb
        gpu = int(np.argmin(np.where(fits, loads, np.inf)))
        placement[model] = gpu
        loads[gpu] += load[model]
        sizes[gpu] += size_gb[model]
    return placement
