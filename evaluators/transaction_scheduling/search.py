"""A long search for good orders: `python -m evaluators.transaction_scheduling.search --stage STAGE`.

It begins with the orders in `best_known.json` and writes the better ones that it finds back. What it finds
depends on the seed and the number of evaluations alone.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any

from evaluators.transaction_scheduling.reference import BEST_KNOWN, Transaction, bound

FAR = 1 << 30
MEMORY = 40  # a step may be as bad as the makespan that many steps ago: late acceptance
QUIET = 6_000  # evaluations without a better order, after which it is shaken
SHAKEN = 6  # transactions that are moved then


class Timeline:
    """Transactions added one after the other, for one batch; fast enough to search with."""

    def __init__(self, transactions: Sequence[Transaction]) -> None:
        self.batch = [
            [(position, key, write) for position, (key, write) in enumerate(transaction)]
            for transaction in transactions
        ]
        self.keys = 1 + max(key for transaction in transactions for key, _ in transaction)

    def makespan(self, order: Sequence[int], give_up: int = FAR) -> int:
        """The makespan of an order, or anything above `give_up` once it is beyond that."""
        written, touched, end = [0] * self.keys, [0] * self.keys, 0
        for one in order:
            start, operations = 0, self.batch[one]
            for position, key, write in operations:
                free = (touched[key] if write else written[key]) - position
                if free > start:  # noqa: PLR1730 - max() takes half as long again
                    start = free
            if start + len(operations) > end:
                end = start + len(operations)
                if end > give_up:
                    return end
            for position, key, write in operations:
                at = start + position + 1
                if write:
                    written[key] = touched[key] = at
                elif at > touched[key]:
                    touched[key] = at
        return end

    def chain(self, order: Sequence[int]) -> list[int]:
        """Places in the order of transactions that wait for each other until the end of the last one."""
        written, touched = [(0, -1)] * self.keys, [(0, -1)] * self.keys  # when free again, after which place
        waited_for, last, end = [-1] * len(order), 0, 0
        for place, one in enumerate(order):
            start = 0
            for position, key, write in self.batch[one]:
                free, after = touched[key] if write else written[key]
                if free - position > start:
                    start, waited_for[place] = free - position, after
            if start + len(self.batch[one]) > end:
                end, last = start + len(self.batch[one]), place
            for position, key, write in self.batch[one]:
                touched[key] = max(touched[key], (start + position + 1, place))
                if write:
                    written[key] = touched[key]
        chain = []
        while last >= 0:
            chain.append(last)
            last = waited_for[last]
        return chain


def search(
    transactions: Sequence[Transaction], order: Sequence[int], evaluations: int, seed: int
) -> tuple[int, list[int]]:
    """The best makespan and order found from `order` on; ends early at the lower bound."""
    random, timeline, goal = Random(seed), Timeline(transactions), bound(transactions)
    current = list(order)
    value = best = timeline.makespan(current)
    found, chain, since = list(current), timeline.chain(current), 0
    history = [value] * MEMORY
    for step in range(evaluations):
        if best <= goal:
            break
        allowed = max(value, history[step % MEMORY])
        trial = moved(current, random.choice(chain) if random.random() < 0.6 else -1, random)
        tried = timeline.makespan(trial, allowed)
        if tried <= allowed:
            current, value, chain = trial, tried, timeline.chain(trial)
        history[step % MEMORY] = value
        since += 1
        if value < best:
            best, found, since = value, list(current), 0
        if since > QUIET:
            current, since = list(found), 0
            for _ in range(SHAKEN):
                current = moved(current, -1, random)
            value, chain = timeline.makespan(current), timeline.chain(current)
            history = [value] * MEMORY
    return best, found


def moved(order: list[int], place: int, random: Random) -> list[int]:
    """The order with one transaction elsewhere: that at `place`, or any for -1; or two swapped."""
    order = list(order)
    place = random.randrange(len(order)) if place < 0 else place
    target = random.randrange(len(order))
    if random.random() < 0.3:
        order[place], order[target] = order[target], order[place]
    else:
        order.insert(target, order.pop(place))
    return order


def improved(
    stage: str, known: Mapping[str, Mapping[str, Any]], evaluations: int, seed: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is to be kept of each batch of a stage, by its content: the better of known and found orders."""
    from evaluators.transaction_scheduling.workloads import cases

    for number, case in enumerate(cases(stage)):
        order = known[case.content]["order"] if case.content in known else range(len(case.keys))
        makespan, found = search(case.transactions, order, evaluations, seed)
        yield case.content, {"stage": stage, "case": number, "makespan": makespan, "order": found}


def main() -> None:
    from evaluators.transaction_scheduling.workloads import STAGES

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--stage", choices=STAGES, required=True)
    parser.add_argument("--evaluations", type=int, default=150_000, help="for each batch")
    parser.add_argument("--seed", type=int, default=1)
    settings = parser.parse_args()
    known = json.loads(BEST_KNOWN.read_text(encoding="utf-8")) if BEST_KNOWN.exists() else {}
    for content, entry in improved(settings.stage, known, settings.evaluations, settings.seed):
        before = known.get(content, {}).get("makespan", "nothing")
        print(f"{settings.stage} {entry['case']}: {entry['makespan']}, before {before}", flush=True)
        known[content] = entry
    lines = [f" {json.dumps(content)}: {json.dumps(entry)}" for content, entry in known.items()]
    BEST_KNOWN.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
