import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from bench import TOY

from kvolve import KvolveError
from sandbox import shipping
from sandbox.shipping import Parcel, moved, settle, wrap


class Post:
    """Where pieces wait between the driver and the nodes, and how many of them were fetched."""

    def __init__(self):
        self.pieces = []
        self.fetched = 0

    def put(self, piece):
        self.pieces.append(piece)
        return len(self.pieces) - 1

    def get(self, number):
        self.fetched += 1
        return self.pieces[number]


@pytest.fixture
def post(monkeypatch, tmp_path):
    monkeypatch.setenv("KVOLVE_CACHE", str(tmp_path / "cache"))
    return Post()


@pytest.fixture
def folder(tmp_path):
    inner = tmp_path / "recording" / "layers"
    inner.mkdir(parents=True)
    (inner / "0.bin").write_bytes(bytes(range(256)))
    (tmp_path / "recording" / "empty").touch()
    return tmp_path / "recording"


def content(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def lose(path):
    """Makes a path one that only the driver knew."""
    return path.rename(path.with_name("elsewhere"))


def test_folder_that_is_here_is_used_where_it_is(folder, post):
    assert settle(wrap(str(folder), post.put), post.get) == str(folder)
    assert post.fetched == 0


def test_folder_that_is_not_here_is_copied(folder, post, tmp_path):
    parcel = wrap(str(folder), post.put)
    original = lose(folder)
    copy = tmp_path / "cache" / "shipped" / parcel.hash
    assert settle(parcel, post.get) == str(copy)
    assert content(copy) == content(original)


def test_folder_with_other_content_here_is_left_alone(folder, post):
    parcel = wrap(str(folder), post.put)
    (folder / "layers" / "0.bin").write_bytes(b"another recording")
    assert settle(parcel, post.get) != str(folder)
    assert (folder / "layers" / "0.bin").read_bytes() == b"another recording"


def test_file_keeps_its_name(folder, post):
    parcel = wrap(str(folder / "layers" / "0.bin"), post.put)
    lose(folder)
    place = settle(parcel, post.get)
    assert place.endswith(f"{parcel.hash}/0.bin")
    with open(place, "rb") as copy:
        assert copy.read() == bytes(range(256))


def test_large_file_travels_in_pieces(folder, post, monkeypatch):
    monkeypatch.setattr(shipping, "PIECE_BYTES", 100)
    parcel = wrap(str(folder), post.put)
    assert list(map(len, post.pieces)) == [100, 100, 56]
    original = lose(folder)
    copied = content(type(folder)(settle(parcel, post.get)))
    assert copied == content(original)


def test_workers_of_one_node_make_one_copy(folder, post):
    parcel = wrap(str(folder), post.put)
    lose(folder)
    together = threading.Barrier(4)

    def arrive(_):
        together.wait()
        return settle(parcel, post.get)

    with ThreadPoolExecutor(4) as workers:
        places = set(workers.map(arrive, range(4)))
    assert len(places) == 1
    assert post.fetched == len(post.pieces)


def test_copy_that_a_killed_worker_left_unfinished_is_made_again(folder, post, tmp_path):
    parcel = wrap(str(folder), post.put)
    original = lose(folder)
    unfinished = tmp_path / "cache" / "shipped" / f"{parcel.hash}.partial"
    unfinished.mkdir(parents=True)
    (unfinished / "half").touch()
    assert content(type(folder)(settle(parcel, post.get))) == content(original)


@pytest.mark.parametrize("name", ["../outside", "/outside", "inner/../../outside", "."])
def test_no_path_leads_out_of_the_folder(name, post, tmp_path):
    with pytest.raises(ValueError, match="leads out"):
        settle(Parcel(str(tmp_path / "none"), "", "0" * 64, {name: [post.put(b"evil")]}), post.get)
    assert not list(tmp_path.rglob("outside"))


def test_hash_tells_a_renamed_file(folder, post):
    before = wrap(str(folder), post.put).hash
    (folder / "empty").rename(folder / "void")
    assert wrap(str(folder), post.put).hash != before


def test_what_does_not_exist_is_a_plain_error(post, tmp_path):
    with pytest.raises(KvolveError, match="does not exist"):
        wrap(str(tmp_path / "none"), post.put)


def test_link_to_a_folder_is_refused(folder, post):
    (folder / "again").symlink_to(folder / "layers")
    with pytest.raises(KvolveError, match="again is a link to a folder"):
        wrap(str(folder), post.put)


def test_arguments_follow_their_files():
    task = replace(TOY, arguments={"search": "/far/recording", "seed": "1"}, data=("/far/recording",))
    here = moved(task, {"/far/recording": "/near/copy"})
    assert here.arguments == {"search": "/near/copy", "seed": "1"}
    assert here.data == ("/near/copy",)
