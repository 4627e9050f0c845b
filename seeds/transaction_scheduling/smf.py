"""Shortest makespan first: next is the waiting transaction of a sample that adds least to the makespan.

Cheng et al., "Towards Optimal Transaction Scheduling", PVLDB 17(11), 2024, doi:10.14778/3681954.3681956.
"""

from random import Random

SAMPLE = 10  # waiting transactions that are looked at; the paper samples to be fast


def schedule(keys, writes):
    rows, flags = keys.tolist(), writes.tolist()
    batch = [
        [(i, k, w) for i, (k, w) in enumerate(zip(row, flag, strict=True)) if k >= 0]
        for row, flag in zip(rows, flags, strict=True)
    ]
    random = Random(1)
    waiting = list(range(len(batch)))
    written, touched, order, end = {}, {}, [], 0
    while waiting:
        best, chosen, began = None, None, 0
        for one in random.sample(waiting, min(SAMPLE, len(waiting))):
            start = 0
            for position, key, write in batch[one]:
                free = touched.get(key, 0) if write else written.get(key, 0)
                start = max(start, free - position)
            added = max(end, start + len(batch[one])) - end
            if best is None or added < best:
                best, chosen, began = added, one, start
        for position, key, write in batch[chosen]:
            touched[key] = max(touched.get(key, 0), began + position + 1)
            if write:
                written[key] = began + position + 1
        end += best
        waiting.remove(chosen)
        order.append(chosen)
    return order
