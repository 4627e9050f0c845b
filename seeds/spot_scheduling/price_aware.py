"""Price-aware pace: any spot instance before on demand, and the one whose hour of work costs least.

Not published as one: the pace of Wu et al., NSDI 2024 (see uniform_progress.py), and a price for moving that
counts the time lost, as in "SkyNomad: On Using Multi-Region Spot Instances to Minimize AI Batch Job Cost",
arXiv:2601.06520. How often each region had capacity so far is counted in memory.
"""

STAY = 3.0  # hours that a spot instance is expected to last where there always was capacity
LATE = 2.0  # restarts that the job may be behind the pace before it goes on demand


def decide(
    elapsed, remaining, left, work, step, restart, migration, place, home, available, price, on_demand, memory
):
    regions = len(available)
    seen = [memory[region] + available[region] for region in range(regions)]
    memory = seen + memory[regions:]
    asked = 1.0 + elapsed / step

    def hourly(region):
        """Dollars for an hour of work there, the start and how long it lasts included."""
        start = 0.0 if region == place else (restart if region == home else migration)
        stay = STAY * (0.5 + seen[region] / asked)
        return price[region] * (1.0 + start / min(stay, remaining + start))

    offered = [region for region in range(regions) if available[region]]
    if offered:
        return min(offered, key=hourly), memory
    behind = elapsed * work / (elapsed + left) - (work - remaining)
    return (regions if place == regions or behind > LATE * restart else -1), memory
