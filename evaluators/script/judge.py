"""The half outside the sandbox: it passes calls between program and evaluator, and takes the figures.

There is nothing that it could check: what a score means is the evaluator's affair. It sees to it that the
score is the evaluator's own, as far as the two run in processes of their own.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from evaluators.evaluation import CandidateError, FailureKind, Verdict
from evaluators.script.actor import message, told
from evaluators.script.described import descriptors
from evaluators.script.running import COMBINED, score_of_figures
from evaluators.script.values import MalformedError, decode, encode, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

TRIAL = "trial"  # the initial program, before a run: it decides how the others are evaluated
STAGES = (TRIAL, "probe", "search", "validation", "holdout")
FEEDBACK_RETURNED = 6_000
FEEDBACK_TEXTS = 3_000
FEEDBACK_OUTPUT = 1_500
KEPT_RETURNED = 50  # functions without arguments of which the first result is remembered


class Partner(Protocol):
    """The evaluator's sandbox: see `sandbox.partner.Partner`."""

    end: Any

    def begin(self, source: str = "") -> "tuple[str, Arrays] | None": ...

    def next(self, answer: "Arrays") -> "tuple[str, Arrays] | None": ...


@dataclass(frozen=True)
class Terms:
    """How the programs of a run are evaluated, as the judge is told in JSON."""

    packages: str = ""  # declared, separated by commas
    thresholds: tuple[float, ...] = ()
    stages: tuple[str, ...] = ()  # functions of the cascade that the evaluator has, but for `evaluate`
    noisy: bool = False
    evaluates: bool = True  # whether it has `evaluate`

    @classmethod
    def read(cls, text: str) -> "Terms":
        given: dict[str, Any] = json.loads(text)
        tuples = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
        return cls(**(given | tuples))

    def functions(self, stage: str) -> tuple[str, ...]:
        """What is called of the evaluator in a stage; nothing where the program is only loaded."""
        first = self.stages[:1] if self.stages[:1] == ("evaluate_stage1",) else ()
        if stage == "probe":
            return first
        if first and (self.thresholds or not self.evaluates):
            return self.stages
        return ("evaluate",)


class ScriptJudge:
    """Leads programs to the evaluator."""

    def __init__(self, initial: str, evaluator: str, terms: str, partner: Partner | None = None) -> None:
        """`initial` and `evaluator` are files; without a `partner`, both run in one process."""
        self.initial = Path(initial).read_text(encoding="utf-8")
        self.path = evaluator
        self.text = Path(evaluator).read_text(encoding="utf-8")
        self.terms = Terms.read(terms)
        self.partner = partner

    def examine(self, stage: str, source: str, sample: int = 0) -> "ScriptExamination":
        """Begins the evaluation of a program in one stage."""
        return ScriptExamination(self, stage, source, sample)


class ScriptExamination:
    """One program's way through one stage."""

    def __init__(self, judge: ScriptJudge, stage: str, source: str, sample: int) -> None:
        self.judge = judge
        self.stage = stage
        self.source = source
        self.seed = _seed(stage, sample)
        self.played = False
        self.outcome: dict[str, Any] = {}
        self.crossed = hashlib.sha256()
        self.calls = 0
        self.bare = True  # no call had arguments: what it returned is all that the program does
        self.bare_results: dict[str, bytes] = {}
        self.calling: tuple[str, bool] = ("", False)
        self.cannot = ""

    def another_process(self) -> bool:
        """A program is played once."""
        self.played, before = True, self.played
        return not before

    def answer(self, question: str, arrays: "Arrays") -> "Arrays":
        """What the process of the program is to know or to do next."""
        try:
            match question, self.judge.partner:
                case "begin", None:
                    return message(self._job(None))
                case "begin", _:
                    return message({"seed": self.seed, "careful": self.stage == TRIAL})
                case "loaded", partner if partner is not None:
                    if not self.judge.terms.functions(self.stage):
                        return message({})
                    asked = partner.begin()
                    if asked is not None:
                        asked = partner.next(message(self._job(_names(arrays))))
                    return self._passed_on(asked)
                case "returned", partner if partner is not None and self.calling[0]:
                    return self._passed_on(partner.next(self._returned(arrays)))
        except MalformedError as error:
            raise CandidateError(FailureKind.INVALID_OUTPUT, str(error)) from error
        raise CandidateError(FailureKind.INVALID_OUTPUT, "The judge was asked out of turn.")

    def take(self, arrays: "Arrays") -> None:
        """The end of the program's process, which in one process is that of the evaluator, too."""
        if self.judge.partner is None:
            self._conclude(told(arrays))

    def value(self) -> dict[str, object]:
        """The verdict. Raises CandidateError for a program to which the evaluator gave no score."""
        if self.stage == TRIAL:
            return self._trial()
        if failed := self.outcome.get("failed"):
            raise CandidateError(FailureKind(failed[0]), failed[1] + self._said())
        if self.cannot:
            raise CandidateError(FailureKind.INTERFACE, f"This cannot cross to the evaluator: {self.cannot}.")
        score = 0.0 if self.stage == "probe" else self._score()  # that is a check, whatever it returns
        figures = self.outcome.get("figures", {})
        return asdict(
            Verdict(
                behaviour=self._behaviour(),
                score=score,
                metrics=_kept(figures),
                descriptors=descriptors(self.source, self.judge.initial),
                feedback=self._feedback(score, figures),
                samples=[[[score]]],
                noisy=self.judge.terms.noisy,
            )
        )

    def _job(self, names: dict[str, Any] | None) -> dict[str, Any]:
        """What the evaluator's process is told; `names` are those of a program in another process."""
        terms = self.judge.terms
        functions = terms.functions(self.stage)
        return {
            "path": self.judge.path,
            "text": self.judge.text,
            "functions": functions,
            "loads": not functions,
            "thresholds": terms.thresholds,
            "packages": terms.packages,
            "seed": self.seed,
            "names": names,
        }

    def _passed_on(self, asked: "tuple[str, Arrays] | None") -> "Arrays":
        """The evaluator's next call, for the program; nothing when it has come to its end."""
        if asked is None:
            assert self.judge.partner is not None
            self._conclude(told(self.judge.partner.end))
            return message({})
        call = told(asked[1])
        args, kwargs = call["args"], call["kwargs"]
        self.calls += 1
        self.calling = (str(call["name"]), not args and not kwargs)
        self.bare &= self.calling[1]
        return asked[1]

    def _returned(self, arrays: "Arrays") -> "Arrays":
        """What a call returned, for the evaluator. Raises CandidateError for what cannot cross."""
        answer = told(arrays)
        if not isinstance(answer, dict) or not ({"value", "raised"} & answer.keys()):
            raise MalformedError("no answer to a call")
        if "undeclared" in answer:
            raise CandidateError(FailureKind.INTERFACE, str(answer["undeclared"]))
        if "cannot" in answer or (self.stage == TRIAL and "denied" in answer):
            self.cannot = self.cannot or str(answer.get("cannot") or answer["denied"])
            if self.stage != TRIAL:
                raise CandidateError(
                    FailureKind.INTERFACE, f"This cannot cross to the evaluator: {self.cannot}."
                )
        if "raised" in answer:
            kind, text, lines = (str(part) for part in answer["raised"])
            answer = {"raised": [kind, text, lines]}
            self.crossed.update(encode([kind, text]))
            return message(answer)
        value = encode(answer["value"])
        self.crossed.update(value)
        if self.calling[1] and len(self.bare_results) < KEPT_RETURNED:
            self.bare_results.setdefault(self.calling[0], value)
        return message({"value": answer["value"]})

    def _conclude(self, outcome: dict[str, Any]) -> None:
        self.outcome = outcome
        self.cannot = self.cannot or str(outcome.get("cannot", ""))

    def _score(self) -> float:
        """The score, whatever the evaluator calls it. Raises CandidateError for none."""
        if stopped := self.outcome.get("stopped"):
            last = self.outcome["last"]
            if COMBINED not in last:
                found = ", ".join(f"{name} {value:g}" for name, value in last.items()) or "nothing"
                raise CandidateError(
                    FailureKind.INVALID_OUTPUT,
                    f"Stage {stopped} of the evaluator gave {found}, which is below its threshold."
                    + self._said(),
                )
            score = last[COMBINED]
        else:
            score = score_of_figures(self.outcome.get("figures", {}))
        if not math.isfinite(score):
            what = "no figures" if not self.outcome.get("figures") else f"the score {score}"
            raise CandidateError(
                FailureKind.INVALID_OUTPUT, f"The evaluator gave {what}.{self._texts()}{self._said()}"
            )
        return float(score)

    def _behaviour(self) -> str:
        """Equal for programs that the evaluator cannot tell apart.

        Where calls have arguments, the probe's are not those of the search: programs that answer alike there
        may differ, and only equal texts are taken for equal.
        """
        if self.calls and self.bare:
            return self.crossed.hexdigest()
        return hashlib.sha256(self.source.encode("utf-8", "backslashreplace")).hexdigest()

    def _trial(self) -> dict[str, object]:
        """What is to be known of the initial program: a score or a failure, and what did not cross."""
        failed = self.outcome.get("failed")
        found: dict[str, object] = {
            "cannot": self.cannot,
            "undeclared": self.outcome.get("undeclared", ""),
            "failed": failed[1] + self._said() if failed else "",
            "score": 0.0,
        }
        if not failed:
            try:
                found["score"] = self._score()
            except CandidateError as error:
                found["failed"] = str(error)
        return found

    def _feedback(self, score: float, figures: dict[str, float]) -> str:
        lines = [f"score: {score:.10g}"] if figures else []
        lines += [f"{name}: {value:.6g}" for name, value in list(figures.items())[:30] if name != COMBINED]
        if stopped := self.outcome.get("stopped"):
            lines.append(f"Stopped at stage {stopped}, below its threshold.")
        return "\n".join([*lines, *self._returned_lines()]) + self._texts() + self._said()

    def _returned_lines(self) -> list[str]:
        """`returned NAME() = VALUE` for what functions without arguments returned first, in full."""
        lines, left = list[str](), FEEDBACK_RETURNED
        for name, value in self.bare_results.items():
            line = f"returned {name}() = {shown(decode(value))}"
            if "\n" in line or len(line) > left:
                continue
            lines.append(line)
            left -= len(line) + 1
        return lines

    def _texts(self) -> str:
        texts = self.outcome.get("texts", {})
        return "".join(f"\n{name}: {text}" for name, text in texts.items())[:FEEDBACK_TEXTS]

    def _said(self) -> str:
        output = str(self.outcome.get("output", "")).strip()[-FEEDBACK_OUTPUT:]
        return f"\noutput:\n{output}" if output else ""


def _names(arrays: "Arrays") -> dict[str, Any]:
    """The public names of a program, as its process tells them; a program may have written that itself."""
    names = told(arrays)
    parts = {"functions": dict, "constants": dict, "others": dict}
    if not isinstance(names, dict) or any(type(names.get(name)) is not kind for name, kind in parts.items()):
        raise MalformedError("no description of a program")
    found: dict[str, Any] = {
        name: {
            key: value for key, value in names[name].items() if isinstance(key, str) and key.isidentifier()
        }
        for name in parts
    }
    doc = names.get("doc")
    return found | {"doc": doc if isinstance(doc, str) else None}


def _kept(figures: dict[str, float]) -> dict[str, float]:
    """The figures that an archive can hold; a name with @ would be taken for one per budget."""
    return {name.replace("@", " at "): value for name, value in figures.items() if math.isfinite(value)}


def _seed(stage: str, sample: int) -> int:
    """The seed of the global generators: measurements before the finals have other numbers than those in
    them."""
    group = stage if stage in ("validation", "holdout") else "search"
    digest = hashlib.sha256(f"{group} {sample}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def open_judge(initial: str, evaluator: str, terms: str, partner: Partner | None = None) -> ScriptJudge:
    """The judge of one run."""
    return ScriptJudge(initial, evaluator, terms, partner)
