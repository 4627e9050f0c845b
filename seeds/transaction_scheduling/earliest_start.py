"""List scheduling: next is the waiting transaction that can start the earliest, of those the longest.

The non-delay schedules of Giffler and Thompson, "Algorithms for Solving Production-Scheduling Problems",
Operations Research 8(4), 1960, with keys in the place of machines.
"""


def schedule(keys, writes):
    rows, flags = keys.tolist(), writes.tolist()
    batch = [
        [(i, k, w) for i, (k, w) in enumerate(zip(row, flag, strict=True)) if k >= 0]
        for row, flag in zip(rows, flags, strict=True)
    ]
    waiting = list(range(len(batch)))
    written, touched, order = {}, {}, []
    while waiting:
        best, chosen = None, None
        for one in waiting:
            start = 0
            for position, key, write in batch[one]:
                free = touched.get(key, 0) if write else written.get(key, 0)
                start = max(start, free - position)
            rank = (start, -len(batch[one]))
            if best is None or rank < best:
                best, chosen = rank, one
        for position, key, write in batch[chosen]:
            touched[key] = max(touched.get(key, 0), best[0] + position + 1)
            if write:
                written[key] = best[0] + position + 1
        waiting.remove(chosen)
        order.append(chosen)
    return order
