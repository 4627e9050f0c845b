"""Uniform Progress: spot whenever there is some, on demand when behind an even pace, until a little ahead.

Wu et al., "Can't Be Late: Optimizing Spot Instance Savings under Deadlines", NSDI 2024: stay on spot until it
is lost; without spot, run on demand while progress is below that of an even pace to the deadline, and wait
otherwise; once on demand, stay until there is spot and progress is that of the even pace two restarts later.
The paper has one region; here spot means the cheapest region that has some. Its safety net is the deadline
rule of the problem.
"""


def decide(
    elapsed, remaining, left, work, step, restart, migration, place, home, available, price, on_demand, memory
):
    regions = len(available)
    if 0 <= place < regions:
        return place, memory
    pace = work / (elapsed + left)  # hours of work for each hour to the deadline
    done = work - remaining
    offered = [region for region in range(regions) if available[region]]
    if place == regions and (not offered or done < (elapsed + 2 * restart) * pace):
        return regions, memory
    if offered:
        return min(offered, key=lambda region: price[region]), memory
    return (regions if done < elapsed * pace else -1), memory
