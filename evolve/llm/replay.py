"""Repeats a run from its transcript, without a network."""

from collections.abc import Callable
from itertools import takewhile

from database.archive import Archive
from database.records import CallRecord
from evolve.llm.errors import NotRecordedError
from evolve.llm.prompt import Prompts
from evolve.llm.proposer import LLMProposer
from evolve.llm.questions import Question
from evolve.llm.settings import LLM, Model

UNNAMED = Model.model_validate({"model": "recorded"})


class Recorded:
    """Answers from the model calls in the archive of another run."""

    def __init__(self, transcript: Archive) -> None:
        self.transcript = transcript

    async def answer(self, question: Question) -> CallRecord:
        """The call of the same proposal and sample with the same prompt, byte by byte.

        Raises NotRecordedError when there is none: the runs differ, or nobody waited for that sample.
        """
        calls = self.transcript.calls(question.number)
        for call in calls:
            if (call.sample, call.prompt) == (question.sample, question.prompt):
                return call
        if len(calls) <= question.position:
            raise NotRecordedError(
                f"The recorded run asked for {len(calls)} replies for proposal {question.number}, this one "
                "asks for more. Repeat it with the settings that it had, and with no more evaluations."
            )
        recorded = calls[question.position].prompt
        pairs = zip(recorded, question.prompt, strict=False)
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        raise NotRecordedError(
            f"Prompt {question.position} of proposal {question.number} is not the recorded one from "
            f"character {common} on ({question.prompt[common : common + 40]!r} instead of "
            f"{recorded[common : common + 40]!r}): the runs differ. Repeat it with its settings, its "
            "templates and its recording."
        )

    def stop(self) -> None:
        """Nothing: answers take no time."""

    async def close(self) -> None:
        self.transcript.close()


class ReplayProposer(LLMProposer):
    """The LLM proposer with the replies of another run; they enter the new archive with what they cost."""

    def __init__(
        self,
        transcript: Archive,
        archive: Archive,
        *,
        prompts: Prompts,
        models: tuple[Model, ...],
        settings: LLM,
        objections: Callable[[str], str],
    ) -> None:
        """`prompts`, `models` and `settings` are those of the recorded run; no models means that the
        environment named the only one.
        """
        super().__init__(
            archive,
            answers=Recorded(transcript),
            prompts=prompts,
            models=models or (UNNAMED,),
            settings=settings,
            objections=objections,
        )
