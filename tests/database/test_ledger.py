"""The ledger: what was paid is the sum of what is stored, in whatever order and lives it came."""

import math
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from database.archive import Archive
from database.connection import archive_url
from database.records import Axis, CallRecord, RunRecord

RUN = RunRecord("p", "{}", 0, (Axis("a", 0, 1, 2),), 1, 0, "0")
CALLS = st.lists(
    st.builds(
        CallRecord,
        number=st.integers(0, 5),
        position=st.integers(0, 3),
        model=st.sampled_from(["one", "other"]),
        prompt=st.text(max_size=20),
        reply=st.text(max_size=20),
        tokens_in=st.integers(0, 10**6),
        tokens_out=st.integers(0, 10**6),
        cost_usd=st.floats(0, 10),
    ),
    max_size=20,
)


@settings(max_examples=25, deadline=None)
@given(calls=CALLS, lives=st.integers(1, 4))
def test_the_ledger_is_the_sum_of_its_calls(calls: list[CallRecord], lives: int) -> None:
    with TemporaryDirectory() as folder:
        url = archive_url(Path(folder) / "archive.db")
        Archive.create(url, RUN).close()
        kept: dict[tuple[int, int], CallRecord] = {}
        for life in range(lives):
            archive = Archive.open(url)
            for call in calls[life::lives]:
                if (call.number, call.position) in kept:
                    continue
                archive.add_call(call)
                kept[call.number, call.position] = call
            if life + 1 == lives:
                cost = archive.cost()
                assert cost.tokens_in == sum(call.tokens_in for call in kept.values())
                assert cost.tokens_out == sum(call.tokens_out for call in kept.values())
                assert math.isclose(
                    cost.usd, math.fsum(call.cost_usd for call in kept.values()), abs_tol=1e-9
                )
                for number in range(6):
                    stored = sorted((key, call) for key, call in kept.items() if key[0] == number)
                    assert archive.calls(number) == [call for _, call in stored]
            archive.close()
