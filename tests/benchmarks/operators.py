"""How many proposals of each built-in operator run: `operators.py [PROBLEM] [--drafts N]`.

Parents are the seeds of the problem; a proposal runs if the probe finds no failure. The last line weighs the
operators as a run does before it has learned anything.
"""

import argparse
import asyncio
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from database.records import candidate_hash
from evaluators.problem import get_problem
from evolve.builtin.drafting import Drafting
from evolve.builtin.operators import OPERATORS, Operator
from evolve.builtin.syntax import parse
from evolve.proposer import Parent
from evolve.run import inputs_of, open_pool
from evolve.settings import make_settings
from evolve.streams import stream
from evolve.view import make_view
from sandbox.screen import screen


async def measure(name: str, drafts: int) -> None:
    """Prints a line for each operator that suits the seeds of a problem."""
    problem = get_problem(name)
    settings = make_settings({"problem": name, "recording": "small"})
    pool = await open_pool(settings, problem, inputs_of(problem, settings, make_view(plain=True)))
    sources = [seed.source for seed in problem.seeds() if seed.role != "bound"]
    parents = [Parent(candidate_hash(source), source, 0.0, "") for source in sources]

    async def outcome(operator: Operator, number: int) -> str:
        random = stream(0, number, operator.name)
        chosen = tuple(parents[random.integers(len(parents))] for _ in range(2))
        if not operator.suits(parse(chosen[0].source)):
            return "nothing to do"
        drafting = Drafting(lambda source: not screen(source, problem.language), (operator,))
        draft = drafting.draft(chosen, random)
        if draft.operator != operator.name:
            return "nothing to do"
        return (await pool.submit(draft.source, "probe")).failure or "runs"

    weight = ran = 0.0
    for operator in OPERATORS:
        if operator.needs:  # a package that no problem of kvolve grants
            continue
        found = Counter(await asyncio.gather(*(outcome(operator, number) for number in range(drafts))))
        made = drafts - found.pop("nothing to do", 0)
        if made:
            print(f"{operator.name:20}{found['runs']:4} of {made:4}  {dict(found - Counter({'runs': made}))}")
            weight += operator.weight * made
            ran += operator.weight * found["runs"]
    print(f"{name}: {ran / weight:.1%} of the proposals run")
    await pool.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures which built-in proposals run.")
    parser.add_argument("problem", nargs="?", default="token_selection")
    parser.add_argument("--drafts", type=int, default=20, metavar="N", help="of each operator")
    given = parser.parse_args()
    asyncio.run(measure(given.problem, given.drafts))


if __name__ == "__main__":
    main()
