"""EPLB on exponentially smoothed loads, with swaps between the heaviest GPU and the others at the end.

Not published as one: the packing of deepseek-ai/EPLB (see eplb.py), Brown's exponential smoothing as the
moving average that it leaves open, and pairwise exchange as in local search for makespan scheduling.
"""

import numpy as np

SMOOTHING = 0.45  # weight of the newest window
SWAPS = 60  # tried for each layer at most


def forecast(history):
    level = history[0]
    for window in history[1:]:
        level = SMOOTHING * window + (1 - SMOOTHING) * level
    return level


def replicate(load, slots):
    counts = np.ones(len(load))
    replica = list(range(len(load)))
    for _ in range(slots - len(load)):
        heaviest = int(np.argmax(load / counts))
        counts[heaviest] += 1
        replica.append(heaviest)
    replica = np.array(replica)
    return replica, (load / counts)[replica]


def pack(share, gpus, slots_per_gpu):
    carried = np.zeros(gpus)
    used = np.zeros(gpus, dtype=np.int64)
    slots = np.zeros((gpus, slots_per_gpu), dtype=np.int64)
    for replica in np.argsort(-share, kind="stable"):
        lightest = int(np.argmin(np.where(used < slots_per_gpu, carried, np.inf)))
        slots[lightest, used[lightest]] = replica
        used[lightest] += 1
        carried[lightest] += share[replica]
    return slots


def exchange(slots, share):
    """Swaps a replica of the heaviest GPU for one elsewhere, as long as the larger of the two loads falls."""
    for _ in range(SWAPS):
        loads = share[slots].sum(1)  # [G]
        heaviest = int(loads.argmax())
        falls = share[slots[heaviest]][:, None, None] - share[slots][None]  # [S, G, S]
        larger = np.maximum(loads[heaviest] - falls, loads[None, :, None] + falls)
        mine, other, theirs = np.unravel_index(int(larger.argmin()), larger.shape)
        if larger[mine, other, theirs] >= loads[heaviest] - 1e-9:
            break
        held = slots[heaviest, mine]
        slots[heaviest, mine] = slots[other, theirs]
        slots[other, theirs] = held
    return slots


def place(history, gpus, slots_per_gpu):
    rows = []
    for load in forecast(history):
        replica, share = replicate(load, gpus * slots_per_gpu)
        slots = exchange(pack(share, gpus, slots_per_gpu), share)
        rows.append(replica[slots.ravel()])
    return np.stack(rows)
