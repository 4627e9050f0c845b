"""Facts that are hidden in a context, and how they are asked for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fact:
    """A line of the context that says something, and how it is asked for."""

    kind: str
    line: tuple[str, str, str]  # what is said is the second part
    question: str
    stem: str  # how the answer begins

    def asked(self, word: str) -> tuple[str, str]:
        """The question and the answer, which begins with a code word where there is one."""
        said = self.line[1]
        if word:
            begin = f"\n\nQuestion: {self.question} Begin with the code word.\nAnswer: The code word is"
            return begin, f" {word}. {self.stem}{said}"
        return f"\n\nQuestion: {self.question}\nAnswer: {self.stem}", said


def pass_key(mark: str, key: str) -> Fact:
    """A line that is like no other; `mark` begins a comment, in code."""
    line = f"{mark}The pass key is", f" {key}", f". Remember it: {key} is the pass key."
    return Fact("single", line, "What is the pass key?", "The pass key is")


def one_of_several(mark: str, thing: str, number: str) -> Fact:
    """A line that is like others about other things."""
    stem = f"The number of the {thing} is"
    return Fact("multi", (f"{mark}{stem}", f" {number}", "."), f"What is the number of the {thing}?", stem)


def row(mark: str, thing: str, number: str, colour: str) -> Fact:
    """A row of a table."""
    line = f"{mark}| {thing} |", f" {number}", f" | {colour} |"
    return Fact("table", line, f"What is in the row of the {thing}?", f"| {thing} |")
