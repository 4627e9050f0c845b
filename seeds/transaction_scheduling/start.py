"""First come, first served: the transactions in the order in which they arrived."""


def makespan(order, keys, writes):
    """When the last transaction ends, if each starts as early as its conflicts with earlier ones allow."""
    rows, flags = keys.tolist(), writes.tolist()
    written = [0] * (1 + max(map(max, rows)))  # when each key can be read again
    touched, end = list(written), 0  # and when it can be written again
    for one in order:
        row, flag, start = rows[one], flags[one], 0
        length = len(row) - row.count(-1)
        for position in range(length):
            free = touched[row[position]] if flag[position] else written[row[position]]
            if free - position > start:  # noqa: PLR1730 - max() takes half as long again
                start = free - position
        now = start
        for position in range(length):
            key, now = row[position], now + 1
            if flag[position]:
                written[key] = touched[key] = now
            elif now > touched[key]:
                touched[key] = now
        if now > end:  # noqa: PLR1730
            end = now
    return end


def schedule(keys, writes):
    order = list(range(len(keys)))
    return order  # noqa: RET504 - an answer with a name can be improved before it is returned
