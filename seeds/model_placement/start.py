"""First fit: each model goes where there is room first, in the order in which the models come."""

ROOM = 1.0  # GB that stay free on each GPU


def pressure(placement, load, size_gb, gpus, memory_gb):
    """The largest load over free memory of all GPUs."""
    loads, sizes = [0.0] * gpus, [0.0] * gpus
    for model, gpu in enumerate(placement):
        loads[gpu] += load[model]
        sizes[gpu] += size_gb[model]
    worst = 0.0
    for gpu in range(gpus):
        free = memory_gb - sizes[gpu]
        if free <= 0:
            return 1e9 - free
        worst = max(worst, loads[gpu] / free)
    return worst


def place(load, size_gb, gpus, memory_gb):
    placement, sizes = [], [0.0] * gpus
    for model in range(len(load)):
        gpu = 0
        while gpu < gpus - 1 and sizes[gpu] + size_gb[model] > memory_gb - ROOM:
            gpu += 1
        sizes[gpu] += size_gb[model]
        placement.append(gpu)
    return placement
