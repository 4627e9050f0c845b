"""Overthinking in a model's reply, measured by rules.

Cuadron et al., "The Danger of Overthinking: Examining the Reasoning-Action Dilemma in Agentic Tasks",
arXiv:2502.08235, find three patterns in the work of agents; of several answers, the one with the least of
them is the best choice. There a model judges, here rules do, of a reply that is to propose one program:

| pattern                | there                         | here: any of                                      |
|------------------------|-------------------------------|---------------------------------------------------|
| analysis paralysis     | plans, does not act           | reasoning without an answer; many and dense       |
|                        |                               | hesitations; long reasoning, few changed lines    |
| rogue actions          | acts several times at once    | two programs; a program and blocks; many blocks   |
| premature              | ends on an imagined result,   | no program, or one that changes nothing; comments |
| disengagement          | or gives up                   | in place of code; results that nobody measured    |

A quotation, of the parent or of a longer program in the answer, is no second program. Results count in prose
only, and of the proposal only: those of the parent have been measured.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from evolve.llm.blocks import SEARCH
from evolve.llm.conversation import without_reasoning
from evolve.llm.fences import Fenced, defines, fenced_texts, syntax_error
from evolve.llm.parse import names_required

MANY_HESITATIONS = 12  # fewer say nothing about a short thought, however dense
DENSE_HESITATIONS = 15  # in 1000 words: one in three or four sentences
LONG_THOUGHT = 4_000  # tokens: half of what a reply may have by default
THOUGHT_PER_LINE = 1_000  # tokens: a page and a half; a change of few lines may need some thought
MANY_BLOCKS = 8  # more of them are more than one idea
NOTHING_NEW = ("The reply is empty", "The reply has no program in it", "The program is the same as")
SHELL = {"bash", "sh", "shell", "console", "text", "output"}

# Only where they interrupt: there are tokens that are actually read, and queries that wait.
HESITATION = re.compile(
    r"\b(?:Wait|wait(?=[,.!…—-])|Actually|actually(?=,)|Alternatively|alternatively(?=,)|(?i:hmm+|hold on"
    r"|scratch that|on second thoughts?|but what if|let me (?:reconsider|re-?think|re-?check|think again"
    r"|start over|step back|double[- ]check)))\b"
)

NUMBER = r"~?(?:\d*\.\d+|\d+ ?%)"
METRIC = r"(?:scores?|errors?|accuracy|loss|mse|perplexity|(?:hit|miss) (?:ratio|rate))"
OWN = (  # neither "it" nor "this program": these may be the parent
    r"(?:it now|(?:this|(?:this|my) (?:change|version|variant|approach|combination|solution)|(?:this|the|my) "
    r"(?:new|improved|revised|modified|updated|resulting|proposed|mended) \w{1,20})(?: now| will)?)"
)
REACHES = r"(?:achiev|reach|obtain|attain|yield|giv|get|reduc|lower|rais|increas|improv|bring)(?:es|ed|e|s)?"
OBJECT = r"(?:it|this|some|(?:the|my)(?: new)? (?:program|policy|code|version|tests?|benchmarks?|evaluation))"
CLAIMS = (
    rf"{OWN} scores?(?: \w{{1,12}})? {NUMBER}",
    rf"{OWN} {REACHES}(?: \w{{1,20}}){{0,4}} {METRIC}(?: \w{{1,12}}){{0,4}} {NUMBER}",
    rf"{OWN} {REACHES}(?: an?)? {NUMBER} {METRIC}",
    rf"{OWN} has been (?:tested|benchmarked)",
    r"(?:I|we)(?:'ve| have)?(?: just| also| already)? (?:tested|benchmarked|measured|simulated|ran(?! out))",
    rf"after (?:running|testing|benchmarking|simulating)(?:,| {OBJECT}\b(?! through))",
    r"in my (?:tests|testing|experiments|benchmarks|measurements)",
    r"(?:program|policy|code|solution|algorithm|it|this)(?:'s| is| seems| appears)(?: to be)? already "
    r"(?:near(?:ly)?[- ])?(?:optimal|perfect)\b(?! (?:for|in|on|at|when|where|if))",
    r"(?:cannot|can't) be improved\b(?!(?: further)? (?:by|with|without|unless|until|if))",
    r"(?:no further improvements? (?:is|are) possible|nothing (?:left )?to improve)",
)
CLAIM = re.compile(rf"\b(?:{'|'.join(CLAIMS)})", re.IGNORECASE)

COMMENT = re.compile(r"(?:pass|\.\.\.)?\s*# ?(\S.*)")  # what is further to the right is a drawing
WORD, DOTS = re.compile(r"\w+"), re.compile(r"\.{3}|…")
CODE = re.compile(r"\s*(?!pass$)[\w@#\"'(\[{]")  # `...` is none
# Of these words only, and names in the parent, are comments that stand for code.
ELSEWHERE = {"rest", "remainder", "remaining", "existing", "previous", "original"}
UNCHANGED = {"unchanged", "same", "before", "above", "omitted", "here"}
OF_CODE = """the of is are as in all other remain remains stay stays goes for brevity body logic code
    class program function functions method methods import imports implementation"""
VOCABULARY = ELSEWHERE | UNCHANGED | set(OF_CODE.split())


class Pattern(StrEnum):
    """A way to overthink, in the paper's words."""

    PARALYSIS = "analysis paralysis"
    ROGUE = "rogue actions"
    DISENGAGEMENT = "premature disengagement"


@dataclass(frozen=True)
class Thinking:
    """How long a reply was thought about, how much came of it, and which patterns of overthinking it shows.

    `tokens` are those of the reasoning. `changed` counts the lines of the parent that the proposal removes
    and the lines that it adds; 0 if no usable program came of it.
    """

    tokens: int
    changed: int
    patterns: tuple[Pattern, ...] = ()

    @property
    def ratio(self) -> float:
        """Tokens of reasoning for each changed line; no change counts as one line."""
        return self.tokens / max(1, self.changed)

    @property
    def order(self) -> tuple[int, float, int]:
        """Sorts the least overthinking first."""
        return len(self.patterns), self.ratio, self.tokens


def examine(reply: str, tokens: int, parent: str, source: str, error: str) -> Thinking:
    """What `reply`, as the archive keeps it, shows of overthinking; `tokens` are those of its reasoning.

    `source` is the program that the reply makes of `parent`. It is not looked at if there is an `error`,
    which is what the model was told is wrong with its reply.
    """
    reply = reply.replace("\r\n", "\n")
    answer = without_reasoning(reply)
    fenced = fenced_texts(answer)
    changed = 0 if error else _changed(parent, source)
    only_thought = not answer.strip() and (tokens > 0 or bool(reply.strip()))
    shown = {
        Pattern.PARALYSIS: only_thought
        or tokens >= max(LONG_THOUGHT, THOUGHT_PER_LINE * changed)
        or _hesitates(reply.replace(answer, "", 1)),
        Pattern.ROGUE: _acts_twice(answer, fenced, parent),
        Pattern.DISENGAGEMENT: not only_thought
        and (
            _is_idle(fenced, parent, source, error)
            or _leaves_out(answer if error else source, parent)
            or _claims(answer, [parent, "" if error else source, *(one.text for one in fenced)])
        ),
    }
    return Thinking(tokens, changed, tuple(pattern for pattern in Pattern if shown[pattern]))


def _changed(parent: str, source: str) -> int:
    """Lines that only one of two programs has, wherever they stand: difflib would take quadratic time."""
    before, after = Counter(_lines(parent)), Counter(_lines(source))
    return ((before - after) + (after - before)).total()


def _lines(text: str, form: Callable[[str], str] = str.strip) -> list[str]:
    return [form(line) for line in text.split("\n") if line.strip()]


def _hesitates(reasoning: str) -> bool:
    found, words = len(HESITATION.findall(reasoning)), len(reasoning.split())
    return found >= MANY_HESITATIONS and found * 1000 >= DENSE_HESITATIONS * words


def _acts_twice(answer: str, fenced: list[Fenced], parent: str) -> bool:
    """Whether there are two programs, or a program and blocks, or many blocks.

    A program defines something that the parent defines, and has a line that neither it nor a longer one has.
    """
    blocks = sum(1 for line in answer.split("\n") if SEARCH.fullmatch(line))
    names, known, programs = names_required(parent), set(_lines(parent)), 0
    for one in sorted(fenced, key=lambda one: len(one.text), reverse=True):
        lines = set(_lines(one.text))
        is_new = one.may_be_python and not lines <= known
        if is_new and syntax_error(one.text) is None and defines(one.text, names):
            programs += 1
            known |= lines
    return blocks > MANY_BLOCKS or programs > (0 if blocks else 1)


def _is_idle(fenced: list[Fenced], parent: str, source: str, error: str) -> bool:
    """Whether there is no program in an answer, or one that changes nothing."""
    if error:
        only_shell = bool(fenced) and all(one.language in SHELL for one in fenced)
        return only_shell or error.startswith(NOTHING_NEW)
    return _lines(source, str.rstrip) == _lines(parent, str.rstrip)  # a line that moves is a change


def _leaves_out(code: str, parent: str) -> bool:
    """Whether a comment that the parent does not have stands for code.

    "# ..." and "# existing code unchanged" always do, "# same as before" only if no code is under it.
    """
    names, known = names_required(parent), set(_lines(parent))
    for line, following in pairwise([*_lines(code, str.rstrip), ""]):
        comment = COMMENT.fullmatch(line.strip())
        if comment is None or comment[0] in known:
            continue
        words = {word.lower() for word in WORD.findall(comment[1]) if word not in names}
        indent = len(line) - len(line.lstrip())
        goes_on = not following[:indent].strip() and CODE.match(following)
        signs = bool(words & ELSEWHERE) + bool(words & UNCHANGED) + 2 * bool(DOTS.search(comment[1]))
        if words <= VOCABULARY and signs >= (2 if goes_on else 1):
            return True
    return False


def _claims(answer: str, programs: list[str]) -> bool:
    """Whether the prose of an answer, which is what is in no program, claims a result."""
    code = {line for program in programs for line in _lines(program)}
    words = " ".join(line for line in _lines(answer) if line not in code).replace("’", "'").split()
    return CLAIM.search(" ".join(words)) is not None
