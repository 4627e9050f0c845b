"""EPLB: replicate the expert with the largest share, then pack the heaviest on the lightest GPU with room.

The "global load balancing" policy of DeepSeek's Expert Parallelism Load Balancer (deepseek-ai/EPLB), for the
redundant experts of the DeepSeek-V3 Technical Report, arXiv:2412.19437, section 3.4. Predicting the loads is
left open there, with a moving average of past statistics as the usual way; here it is their mean.
"""

import numpy as np


def replicate(load, slots):
    """The expert of each replica, and its share of the load: each spare slot goes to the largest share."""
    experts = np.arange(len(load))
    counts = np.ones(len(load))
    chosen = []
    for _ in range(slots - len(load)):
        heaviest = int(np.argmax(load / counts))
        counts[heaviest] += 1
        chosen.append(heaviest)
    replica = np.concatenate([experts, np.array(chosen, dtype=np.int64)])
    return replica, (load / counts)[replica]


def pack(share, gpus, slots_per_gpu):
    """The replica in each slot: the heaviest first, each to the GPU with the smallest load so far."""
    carried = [0.0] * gpus
    held = [[] for _ in range(gpus)]
    for replica in np.argsort(-share, kind="stable").tolist():
        free = [gpu for gpu in range(gpus) if len(held[gpu]) < slots_per_gpu]
        lightest = min(free, key=lambda gpu: carried[gpu])
        held[lightest].append(replica)
        carried[lightest] += share[replica]
    return [replica for gpu in held for replica in gpu]


def place(history, gpus, slots_per_gpu):
    rows = []
    for load in history.mean(0):
        replica, share = replicate(load, gpus * slots_per_gpu)
        rows.append(replica[pack(share, gpus, slots_per_gpu)])
    return np.stack(rows)
