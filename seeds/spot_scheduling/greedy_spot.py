"""Greedy: spot whenever there is some, else wait, and on demand at the last moment that is safe.

The greedy policy that Wu et al., "Can't Be Late: Optimizing Spot Instance Savings under Deadlines", NSDI
2024, compare with; which region is the cheapest one, unless the job already runs on spot. The last moment is
left to the deadline rule of the problem.
"""


def decide(
    elapsed, remaining, left, work, step, restart, migration, place, home, available, price, on_demand, memory
):
    regions = len(available)
    if 0 <= place < regions:
        return place, memory
    offered = [region for region in range(regions) if available[region]]
    if not offered:
        return -1, memory
    return min(offered, key=lambda region: price[region]), memory
