"""Lessons: what a model says that the elites have in common, in a few lines that later prompts carry."""

import re

from evolve.llm.conversation import without_reasoning

MOST = 4
LONGEST = 100  # characters of a lesson
ITEM = re.compile(r"^[ \t]*(?:(?:[-*+•]|\(?\d{1,2}[.)])[ \t]+)+(\S.*)$", re.M)


def read_lessons(reply: str) -> tuple[str, ...]:
    """The items of the lists in a reply, the first ones, a line each; none where there is no list."""
    items = (" ".join(item.replace("*", "").split()) for item in ITEM.findall(without_reasoning(reply)))
    kept = dict.fromkeys(item if len(item) <= LONGEST else item[: LONGEST - 4] + " ..." for item in items)
    return tuple(item for item in kept if item)[:MOST]
