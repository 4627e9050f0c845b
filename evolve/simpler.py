"""Shorter programs that decide like a candidate: they stand for it in later proposals."""

from collections.abc import Collection

from database.archive import Archive
from database.records import Step
from evolve.proposer import Parent, parent_of

SIMPLIFY = "simplify"
ALL = 1_000_000


class Simpler:
    """Learns from the proposals `simplify` of some models; what it knows it has from the archive."""

    def __init__(self, archive: Archive, models: Collection[str]) -> None:
        self.archive = archive
        self.known: dict[str, str] = {}  # candidate -> the shorter one that decides like it
        for step in archive.latest_steps(ALL, SIMPLIFY, models):
            self.learn(step)

    def learn(self, step: Step) -> None:
        """Told of each completed proposal of these models, in their order."""
        same = step.duplicate_of
        # of two that were made of one program at a time, nobody knows which is shorter: the first one counts
        if step.operator == SIMPLIFY and same is not None and step.parent == self.known.get(same, same):
            self.known[same] = step.hash

    def of(self, parent: Parent) -> Parent:
        """The shortest known program that decides like a candidate."""
        simpler = self.known.get(parent.hash)
        return parent if simpler is None else parent_of(self.archive, simpler)
