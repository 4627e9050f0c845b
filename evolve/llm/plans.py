"""Plans in natural language, and those among them that differ the most.

After PlanSearch (Wang et al., "Planning In Natural Language Improves LLM Search For Code Generation",
arXiv:2409.03733): ideas differ more when they are searched as plans than when they are sampled as programs.
"""

import re
from itertools import combinations

from evolve.llm.conversation import without_reasoning
from evolve.llm.errors import ReplyError

ASKED = 4  # plans that are asked for
LONGEST = 600  # characters of a plan that are kept
NUMBERED = re.compile(
    r"^[ \t]*(?:#+[ \t]*)?(?:\*\*)?(?:plan[ \t]*)?\(?(\d{1,2})[.):](?:\*\*)?[ \t]*", re.I | re.M
)
WORD = re.compile(r"[a-z]{4,}")


def read_plans(reply: str, least: int) -> list[str]:
    """The numbered plans in a reply. Raises ReplyError when there are fewer than `least`."""
    answer = without_reasoning(reply).replace("\r\n", "\n")
    marks = list(NUMBERED.finditer(answer))
    ends = [*(mark.start() for mark in marks[1:]), len(answer)]
    texts = [answer[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=False)]
    plans = list(dict.fromkeys(" ".join(text.split())[:LONGEST] for text in texts if text))
    if len(plans) < least:
        raise ReplyError(
            f"The reply has {len(plans)} numbered plans, {ASKED} are asked for. Begin each one with its "
            "number at the start of a line, as in `1. ...`, and write no code yet."
        )
    return plans


def as_list(plans: list[str]) -> str:
    """Plans as a model was asked to write them."""
    return "\n".join(f"{number}. {plan}" for number, plan in enumerate(plans[:ASKED], 1))


def most_different(plans: list[str], count: int) -> list[str]:
    """The `count` plans of which the two most similar ones differ the most; of equals, the first ones."""
    words = [frozenset(WORD.findall(plan.lower())) for plan in plans]

    def least_distance(chosen: tuple[int, ...]) -> float:
        return min((_distance(words[a], words[b]) for a, b in combinations(chosen, 2)), default=1.0)

    return [plans[place] for place in max(combinations(range(len(plans)), count), key=least_distance)]


def _distance(one: frozenset[str], other: frozenset[str]) -> float:
    """Share of the words of two plans that they do not have in common (Jaccard)."""
    return 1 - len(one & other) / max(1, len(one | other))
