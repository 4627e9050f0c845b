"""First fit, in the order in which the sizes come."""


def pack(sizes):
    bins = []
    for size in sizes:
        for one in bins:
            if sum(one) + size <= 100:
                one.append(size)
                break
        else:
            bins.append([size])
    return bins
