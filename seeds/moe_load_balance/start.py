"""Round robin: the experts in their order, over and over, whatever their load. The floor."""

import numpy as np


def balance(phy2log, history, gpus, slots_per_gpu):
    """Mean over largest load of a GPU on the average of the told windows, mean over the layers."""
    total = 0.0
    for experts, loads in zip(phy2log, history.mean(0), strict=True):
        shares = loads / np.maximum(np.bincount(experts, minlength=len(loads)), 1)
        carried = shares[experts].reshape(gpus, slots_per_gpu).sum(1)
        total += carried.mean() / carried.max()
    return total / len(phy2log)


def place(history, gpus, slots_per_gpu):
    layers, experts = history.shape[1:]
    return np.tile(np.arange(gpus * slots_per_gpu) % experts, (layers, 1))
