"""Prompts: Jinja2 templates filled with a problem's interface and the candidates of one request.

Whoever asks hands over a Request and nothing else of a run, so that only figures of the probe and search
stages can appear. Everything but the candidates' sources stays within LIMIT characters, as far as the
interface leaves room.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evolve.llm.plans import ASKED
from evolve.proposer import INSPIRATIONS, Parent, Request
from kvolve import KvolveError

if TYPE_CHECKING:
    from jinja2 import Environment, Template

LIMIT = 5_000  # characters of a prompt beyond the sources
LEAST_FEEDBACK = 300  # characters that there are for it, however long an interface is
LONGEST_ERROR = 1_000  # characters of what is said of a reply that cannot be used
LONGEST_FAILURE = 100  # characters of each of several failures
LONGEST_MESSAGE = 400  # characters of the failure that is to be repaired
MOST_FAILURES = 2
MOST_OTHERS = 3
LONGEST_FENCE = 8
LONGEST_EXAMPLE = 60
SEPARATORS = 8  # characters that appear with a feedback
TEMPLATES = Path(__file__).parent / "templates"
EXPLAIN = "explain"
COMPLAINT = "complaint"
CODE = "code"  # asks for the program of a plan
NAMES = ("rewrite", "diff", "crossover", "plan", "repair", "simplify", EXPLAIN, COMPLAINT, CODE)
SHOWS_ALL = ("crossover", EXPLAIN)  # with the feedback of every candidate


def others_of(operator: str, request: Request) -> tuple[Parent, ...]:
    """The candidates that an operator shows beside the parent, each once.

    Of the others of a request, the first is there to be crossed with, those after it to inspire.
    """
    first, *others = request.parents
    different = tuple({other.hash: other for other in others if other.hash != first.hash}.values())
    if operator in ("repair", "simplify"):
        return ()
    if operator == "crossover":
        return different[:1]
    return different[:MOST_OTHERS] if operator == EXPLAIN else different[-INSPIRATIONS:]


class Prompts:
    """The prompts of one problem. A file of the same name in `overriding` takes the place of a template."""

    def __init__(self, interface: str, overriding: Path | None = None) -> None:
        """Raises KvolveError when a template is malformed."""
        self.interface = interface.strip()
        self.environment = _environment(overriding)
        self.templates = {name: self._template(name) for name in NAMES}

    def render(self, operator: str, request: Request) -> str:
        """The prompt for `request`. Raises KvolveError when the template asks for what there is not."""
        # what the prompt takes without sources and feedback decides how much feedback there is room for
        bare = self._filled(operator, **_variables(operator, request, room=0, sources=False))
        room = max(LEAST_FEEDBACK, LIMIT - len(bare) - SEPARATORS)
        return self._filled(operator, **_variables(operator, request, room))

    def complaint(self, error: str) -> str:
        """What is said to a model whose reply cannot be used."""
        return self._filled(COMPLAINT, error=clipped(error, LONGEST_ERROR))

    def code(self, plan: str) -> str:
        """What is said to a model that is to write the program of one of its plans."""
        return self._filled(CODE, plan=plan)

    def _filled(self, name: str, **variables: Any) -> str:
        from jinja2 import TemplateError

        try:
            return self.templates[name].render(interface=self.interface, **variables).strip() + "\n"
        except TemplateError as error:
            raise _wrong_template(self.templates[name].filename or name, error) from error

    def _template(self, name: str) -> "Template":
        from jinja2 import TemplateError

        try:
            return self.environment.get_template(f"{name}.md.j2")
        except (TemplateError, UnicodeDecodeError) as error:
            raise _wrong_template(getattr(error, "filename", None) or f"{name}.md.j2", error) from error


def clipped(text: str, length: int) -> str:
    """The beginning of a text, `length` characters at most; cut at the end of a line if that loses little."""
    text = text.strip()
    if len(text) <= length:
        return text
    head = text[: max(0, length - 4)]
    line_end = head.rfind("\n")
    return (head[:line_end] if line_end > length // 2 else head).rstrip() + " ..."


def fenced(source: str) -> str:
    """A program between fences that are longer than any in it."""
    longest = max((len(run) for run in re.findall(r"`+", source)), default=0)
    fence = "`" * min(max(3, longest + 1), LONGEST_FENCE)
    return f"{fence}python\n{source.rstrip()}\n{fence}"


def _environment(overriding: Path | None) -> "Environment":
    from jinja2 import FileSystemLoader, StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # a run directory may come from somebody else: its templates see what they are given, and nothing more
    folders = [TEMPLATES] if overriding is None else [overriding, TEMPLATES]
    environment = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(folders),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["fenced"] = fenced
    return environment


def _variables(operator: str, request: Request, room: int, sources: bool = True) -> dict[str, Any]:
    """What a template may ask for, with `room` characters of feedback; without `sources`, none are shown."""
    first, others, failures = request.parents[0], others_of(operator, request), request.failures
    if shows_all := operator in SHOWS_ALL:  # the programs are equals
        room //= 1 + len(others)
    return {
        "parent": _shown(first, room, sources),
        "others": [_shown(other, room if shows_all else 0, sources) for other in others],
        "line": _example_line(first.source),
        "lessons": list(request.lessons),
        "plans": ASKED,
        "failures": [
            f"{one.kind}: {' '.join(clipped(one.message, LONGEST_FAILURE).split())}"
            for one in failures[:MOST_FAILURES]
        ],
        "failure": failures
        and {
            "source": failures[0].source if sources else "",
            "kind": failures[0].kind,
            "message": clipped(failures[0].message, LONGEST_MESSAGE),
        },
        "keeps_markers": "EVOLVE-BLOCK-START" in first.source,
    }


def _shown(parent: Parent, room: int, sources: bool) -> dict[str, str]:
    """A candidate as a template sees it."""
    return {
        "source": parent.source if sources else "",
        "score": f"{parent.score:.5g}",
        "feedback": clipped(parent.feedback, room) if room > 4 else "",
    }


def _example_line(source: str) -> str:
    """A line of a program that occurs once in it: the longest one that is not too long."""
    lines = source.rstrip().split("\n")
    once = [line for line in lines if lines.count(line) == 1 and 0 < len(line) <= LONGEST_EXAMPLE]
    return max(once, key=len, default=lines[0][:LONGEST_EXAMPLE])


def _wrong_template(file: str, error: Exception) -> KvolveError:
    return KvolveError(
        f"The template {file} cannot be used: {error}. A template may ask for interface, parent, others, "
        "failures, failure, lessons, plans, line and keeps_markers; complaint.md.j2 for error, code.md.j2 "
        "for plan."
    )
