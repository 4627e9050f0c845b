"""The toy problem with a judge that has data: its value tells what it read there, and where."""

from pathlib import Path

from toy_problem import ToyExamination


class ReadingJudge:
    def __init__(self, recording):
        self.folder = recording
        self.said = (Path(recording) / "inner" / "said").read_text()

    def examine(self, stage, source, sample):
        return ReadingExamination(self)


class ReadingExamination(ToyExamination):
    def __init__(self, judge):
        super().__init__(1)
        self.judge = judge

    def value(self):
        return super().value() | {"folder": self.judge.folder, "said": self.judge.said}
