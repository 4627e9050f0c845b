"""Each job goes to the machine with the least to do."""


def assign(jobs):
    carried = [0, 0, 0]
    machines = []
    for job in sorted(range(len(jobs)), key=lambda one: -jobs[one]):
        machine = carried.index(min(carried))
        carried[machine] += jobs[job]
        machines.append((job, machine))
    return max(carried), [machine for _, machine in sorted(machines)]
