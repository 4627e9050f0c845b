"""What is particular to an archive at a PostgreSQL server: schemas, sessions, rights, and what goes wrong."""

import os
import stat
import sys
from dataclasses import replace

import pytest
from sqlalchemy import make_url, text

from database import lock
from database.archive import Archive
from database.connection import open_engine, own_url, transaction
from database.lock import server_lock
from evolve.workspace import ELSEWHERE, new_place, place_of
from kvolve import KvolveError

NOBODY = "postgresql://me@127.0.0.1:1/name"  # no server listens there


@pytest.fixture
def url(postgresql: str, request: pytest.FixtureRequest) -> str:
    return own_url(postgresql, request.node.name)


def changed(url: str, **parts: object) -> str:
    return make_url(url).set(**parts).render_as_string(hide_password=False)


def ask(url: str, question: str) -> list[tuple]:
    with transaction(open_engine(url, "write"), writing=True) as connection:
        answer = connection.execute(text(question))
        return [tuple(row) for row in answer] if answer.returns_rows else []


def end_sessions(url: str) -> None:
    """What a restart of the server does to those who are connected."""
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    ask(url, f"{others} AND application_name = 'kvolve'")


@pytest.mark.parametrize(
    ("run", "schema"),
    [
        ("token_selection-001", "kvolve_token_selection_001"),
        ("Läufe, 50%", "kvolve_l_ufe_50"),
        ("x" * 99, "kvolve_" + "x" * 40),
    ],
)
def test_schema_is_called_after_the_run(run, schema):
    assert own_url(NOBODY, run) == f"postgresql+psycopg://me@127.0.0.1:1/name?schema={schema}"


def test_schema_of_the_url_is_taken():
    assert make_url(own_url(f"{NOBODY}?schema=mine", "first")).query["schema"] == "mine"


@pytest.mark.parametrize("name", ["pg_mine", "x" * 49, 'a"b', "a b"])
def test_impossible_schema_is_refused(name):
    with pytest.raises(KvolveError, match="cannot name the schema"):
        open_engine(f"{NOBODY}?schema={name}", "read")


def test_archives_in_one_database_do_not_see_each_other(url, run, propose):
    other = changed(url, query={"schema": "another"})
    for place, seed in ((url, 1), (other, 2)):
        Archive.create(place, replace(run, seed=seed)).add_proposal(propose(seed))
    assert [Archive.open(place).run.seed for place in (url, other)] == [1, 2]
    assert [Archive.open(place).next_number() for place in (url, other)] == [2, 3]


def test_schema_without_tables_is_no_archive(url, run):
    with pytest.raises(KvolveError, match="is not a kvolve archive"):
        Archive.open(url)
    assert ask(url, "SELECT current_schema()") == [(None,)]


def test_archive_is_made_in_a_schema_that_is_there(url, run):
    ask(url, f'CREATE SCHEMA "{make_url(url).query["schema"]}"')
    Archive.create(url, run)
    assert Archive.open(url).run == run


def test_question_sees_one_moment(archive, url, propose):
    with transaction(open_engine(url, "read")) as connection:
        count = text("SELECT count(*) FROM proposal")
        before = connection.scalar(count)
        archive.add_proposal(propose(0))
        assert connection.scalar(count) == before == 0


def test_reader_cannot_write(archive, url):
    with (
        pytest.raises(KvolveError, match="is read-only"),
        transaction(open_engine(url, "read")) as connection,
    ):
        connection.execute(text("DELETE FROM run"))


def test_second_writer_is_refused(archive, url, monkeypatch):
    monkeypatch.setattr(lock, "BUSY_TIMEOUT_S", 0.05)
    with (
        server_lock(url),
        server_lock(changed(url, query={"schema": "another"})),
        pytest.raises(KvolveError, match="locked by another program"),
        server_lock(url),
    ):
        pass


def test_right_to_write_can_be_taken_again_afterwards(archive, url):
    for _ in range(2):
        with server_lock(url):
            assert archive.next_number() == 0


def test_right_to_write_in_a_file_needs_no_server(tmp_path):
    with server_lock(f"sqlite:///{tmp_path / 'archive.db'}"):
        assert list(tmp_path.iterdir()) == []


def test_lost_connection_is_reported_and_loses_nothing(archive, url, propose):
    archive.add_proposal(propose(0))
    with server_lock(url):
        end_sessions(url)
        with pytest.raises(KvolveError, match=r"out of reach.*`kvolve resume` goes on"):
            archive.add_proposal(propose(1))
    assert Archive.open(url).pending() == [propose(0)]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"port": 1}, r"cannot be reached: Connection refused\. Start the server"),
        ({"password": ""}, "wants a password. Set PGPASSWORD"),
        ({"password": "wrong"}, "refuses this user. Check the user and the password"),
        ({"username": "stranger"}, "refuses this user"),
        ({"database": "nowhere"}, 'database "nowhere" does not exist. Make it on the server'),
        ({"query": {"colour": "red"}}, 'invalid connection option "colour". Check the URL'),
    ],
)
def test_place_that_cannot_be_opened_is_named_without_the_password(url, run, monkeypatch, parts, message):
    monkeypatch.delenv("PGPASSWORD", raising=False)
    place = changed(url, **parts)
    with pytest.raises(KvolveError, match=message) as refusal:
        Archive.create(place, run)
    assert make_url(url).password not in str(refusal.value)
    assert "wrong" not in str(refusal.value)


def test_user_without_rights_is_told_what_to_ask_for(url, run):
    ask(url, "CREATE ROLE guest LOGIN PASSWORD 'guest'")
    guest = changed(url, username="guest", password="guest")
    with pytest.raises(KvolveError, match="Ask its owner for CREATE on the database"):
        Archive.create(guest, run)


def test_missing_driver_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(KvolveError, match=r"pip install 'psycopg\[binary\]'"):
        open_engine(NOBODY, "read")


def test_database_that_cannot_store_all_texts_is_refused(url, run):
    engine = open_engine(url, "write").execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE DATABASE old TEMPLATE template0 ENCODING LATIN1 LOCALE 'C'"))
    with pytest.raises(KvolveError, match=r"keeps texts as LATIN1.*encoding UTF8"):
        Archive.create(changed(url, database="old"), run)


def test_order_of_names_is_that_of_a_file(url, run, propose, evaluate):
    """A server may sort as people do: b, B, b_a, bb."""
    engine = open_engine(url, "write").execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        if connection.dialect.server_version_info < (15,):
            pytest.skip("this PostgreSQL is older than 15, whose databases may have an order of their own")
        order = "LOCALE_PROVIDER icu ICU_LOCALE 'en' LOCALE 'C'"
        connection.execute(text(f"CREATE DATABASE people TEMPLATE template0 {order}"))
    archive = Archive.create(changed(url, database="people"), run)
    names = ["b", "B", "bb", "b_a"]
    for number, name in enumerate(names):
        archive.add_proposal(propose(number, operator=name))
        archive.add_evaluation(number, replace(evaluate(None), failure=name))
    assert list(archive.operator_counts()) == list(archive.failures()) == sorted(names)


def test_run_directory_notes_the_place_for_its_owner_only(tmp_path):
    with new_place(tmp_path, NOBODY) as url:
        pass
    assert place_of(tmp_path) == url
    assert stat.S_IMODE(os.stat(tmp_path / ELSEWHERE).st_mode) == 0o600


def test_place_of_a_run_that_could_not_be_made_is_not_noted(tmp_path):
    with pytest.raises(RuntimeError), new_place(tmp_path, NOBODY):
        raise RuntimeError("no server")
    assert list(tmp_path.iterdir()) == []


def test_file_elsewhere_is_noted_with_its_whole_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with new_place(tmp_path, "sqlite:///mine.db") as url:
        assert url == f"sqlite:///{tmp_path}/mine.db"
