"""Local searches as text, to be put into a program.

Each takes where it starts, and a function that says how bad an answer is.

Simulated annealing (Kirkpatrick, Gelatt and Vecchi, Science 220, 1983) over orders, assignments or real
numbers; iterated local search (Lourenco, Martin and Stutzle, Handbook of Metaheuristics, 2003) over orders or
assignments; and an ascent along differences (Kingma and Ba, "Adam", arXiv:1412.6980).
"""

ANNEALED = '''\
def {{name}}({arguments}):
    """Simulated annealing: {what};
    what is worse is accepted less and less.
    """
    draw = random.Random({{seed}})
    now = list(start)
    value = loss(now)
    best, least = list(now), value
    for turn in range({{rounds}}):
        one, other = draw.randrange(len(now)), draw.randrange(len(now))
        trial = list(now)
        if draw.random() < {{moves}}:
            {change}
        else:
            trial[one], trial[other] = trial[other], trial[one]
        new = loss(trial)
        heat = {{heat}} * abs(least) * (1 - turn * {{cycles}} % {{rounds}} / {{rounds}})
        if new <= value or (heat > 0 and draw.random() < math.exp(max(-50.0, (value - new) / heat))):
            now, value = trial, new
            if value < least:
                best, least = list(now), value
    return best
'''
ITERATED = '''\
def {{name}}({arguments}):
    """Iterated local search: down until no change helps, then on from some random changes of the best;
    {what}.
    """
    draw = random.Random({{seed}})
    width = {values} + len(start)

    def changed(answer, move):
        trial = list(answer)
        one, other = divmod(move, width)
        if other < {values}:
            {change}
        else:
            trial[one], trial[other - {values}] = trial[other - {values}], trial[one]
        return trial

    moves = draw.sample(range(len(start) * width), min(100_000, len(start) * width))
    untried = len(moves)
    now = list(start)
    value = loss(now)
    best, least = now, value
    for turn in range({{rounds}}):
        if not untried:
            if value <= least:
                best, least = now, value
            now = best
            for kick in range({{kicks}}):
                now = changed(now, draw.choice(moves))
            value, untried = loss(now), len(moves)
        chosen = draw.randrange(untried)
        untried -= 1
        moves[chosen], moves[untried] = moves[untried], moves[chosen]
        trial = changed(now, moves[untried])
        if trial != now:
            new = loss(trial)
            if new < value:
                untried = len(moves)
            if new <= value:
                now, value = trial, new
    return now if value < least else best
'''
# What changes an answer: `other` is one of the `values` that the item `one` may move to, or get.
ORDERS = {
    "arguments": "start, loss",
    "what": "an item moves, or two change places",
    "values": "len(start)",
    "change": "trial.insert(other, trial.pop(one))",
}
ASSIGNMENTS = {
    "arguments": "start, loss",
    "what": "an item gets the value of another one, or two change places",
    "values": "len(start)",
    "change": "trial[one] = trial[other]",
}
COUNTED_ASSIGNMENTS = {
    "arguments": "start, loss, count",
    "what": "an item gets one of the values up to a number, or two change places",
    "values": "count",
    "change": "trial[one] = other",
}
ORDER, ORDER_ITERATED = ANNEALED.format(**ORDERS), ITERATED.format(**ORDERS)
ASSIGNMENT, ASSIGNMENT_ITERATED = ANNEALED.format(**ASSIGNMENTS), ITERATED.format(**ASSIGNMENTS)
COUNTED_ASSIGNMENT = ANNEALED.format(**COUNTED_ASSIGNMENTS | {"change": "trial[one] = draw.randrange(count)"})
COUNTED_ASSIGNMENT_ITERATED = ITERATED.format(**COUNTED_ASSIGNMENTS)
REAL = '''\
def {name}(start, loss):
    """Simulated annealing: some numbers take a random step; what is worse is accepted less and less."""
    draw = np.random.default_rng({seed})
    now = np.array(start, dtype=float)
    value = loss(now)
    best, least = now.copy(), value
    for turn in range({rounds}):
        width = {step} * 10 ** (-3 * draw.random())
        trial = now + width * draw.normal(size=now.shape) * (draw.random(now.shape) < {moves})
        new = loss(trial)
        heat = {heat} * abs(least) * (1 - turn * {cycles} % {rounds} / {rounds})
        if new <= value or (heat > 0 and draw.random() < math.exp(max(-50.0, (value - new) / heat))):
            now, value = trial, new
            if value < least:
                best, least = now.copy(), value
    return best
'''
ASCENT = '''\
def {name}(start, loss):
    """Goes down along differences of the loss, with the step sizes of Adam; the best point on the way."""
    now = np.array(start, dtype=float)
    best, least = now.copy(), loss(now)
    first, second = np.zeros(now.size), np.zeros(now.size)
    turns = max(1, {rounds} // (now.size + 1))
    for turn in range(turns):
        value = loss(now)
        if value < least:
            best, least = now.copy(), value
        rate = {step} * (1 - turn / turns)
        slope = np.zeros(now.size)
        for place in range(now.size):
            trial = now.copy()
            trial.flat[place] += 0.1 * rate
            slope[place] = (loss(trial) - value) / (0.1 * rate)
        first = 0.9 * first + 0.1 * slope
        second = 0.99 * second + 0.01 * slope**2
        move = first / (1 - 0.9 ** (turn + 1)) / (np.sqrt(second / (1 - 0.99 ** (turn + 1))) + 1e-8)
        now = now - rate * move.reshape(now.shape)
    return best if least < loss(now) else now
'''
