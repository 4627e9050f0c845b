"""Prism: the models by weighted request rate, the highest first, each where the pressure becomes the lowest.

Yu et al., "Prism: Unleashing GPU Sharing for Cost-Efficient Multi-LLM Serving", arXiv:2505.04021, algorithm 1
(global placement by the KV pressure ratio), without its threshold for migrations: nothing runs yet here.
"""

import numpy as np


def place(load, size_gb, gpus, memory_gb):
    loads, sizes = np.zeros(gpus), np.zeros(gpus)
    placement = [0] * len(load)
    for model in sorted(range(len(load)), key=lambda model: -load[model]):
        free = memory_gb - sizes - size_gb[model]
        after = np.where(free > 0, (loads + load[model]) / np.maximum(free, 1e-9), np.inf)
        gpu = int(np.argmin(after))
        placement[model] = gpu
        loads[gpu] += load[model]
        sizes[gpu] += size_gb[model]
    return placement
