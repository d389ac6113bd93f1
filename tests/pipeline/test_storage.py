"""The store: a folder or a prefix, with whole objects or none, whatever their names."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.conditional import local_write_if
from pipeline.storage import TEMPORARY, Store, split_uri
from supir_core.errors import StorageError

AWKWARD = [
    "two words.jpg",
    "Größe 写真.jpg",
    "a#1.jpg",
    "100%25.jpg",
    "[x].jpg",
    "a*b?.jpg",
    "{one,two}.jpg",
    "quote'\".jpg",
    "a::b.jpg",
    "-rf.jpg",
    ".hidden.jpg",
]


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A folder, and a store that is none."""
    return Store(str(tmp_path / "store") if request.param == "folder" else f"memory://{uuid.uuid4().hex}")


def test_what_is_written_is_read_back(store: Store) -> None:
    store.write("a/b/one.bin", b"1")
    store.write("a/b/one.bin", b"22")
    assert store.read("a/b/one.bin") == b"22"
    assert store.read_if_any("a/b/one.bin") == b"22"
    assert store.exists("a/b") and store.is_file("a/b/one.bin") and not store.is_file("a/b")


def test_what_is_not_there(store: Store) -> None:
    assert store.read_if_any("nothing") is None
    assert not store.exists("nothing")
    assert list(store.entries("nothing")) == []
    with pytest.raises(StorageError, match="nothing does not exist") as error:
        store.read("nothing")
    assert error.value.code == "not-found" and error.value.hint


def test_entries_are_sorted_recursive_and_relative(store: Store) -> None:
    for name in ("b.jpg", "a/2.jpg", "a/1/x.jpg"):
        store.write(name, b"xyz")
    assert [(entry.path, entry.size_bytes) for entry in store.entries()] == [
        ("a/1/x.jpg", 3),
        ("a/2.jpg", 3),
        ("b.jpg", 3),
    ]
    assert [entry.path for entry in store.entries("a")] == ["a/1/x.jpg", "a/2.jpg"]


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_names(store: Store, name: str) -> None:
    for path in (name, f"folder of {name}/{name}"):
        store.write(path, path.encode())
        assert store.read(path) == path.encode()
    assert sorted(entry.path for entry in store.entries()) == sorted([name, f"folder of {name}/{name}"])


@pytest.mark.parametrize("name", AWKWARD)
def test_the_address_of_a_file_leads_back_to_it(tmp_path: Path, name: str) -> None:
    store = Store(str(tmp_path / "photos"))
    store.write(f"sub {name}/{name}", b"here")
    again, leaf = split_uri(store.uri(f"sub {name}/{name}"))
    assert again.read(leaf) == b"here"


def test_a_version_changes_with_the_content(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write("a.jpg", b"before")
    (before,) = store.entries()
    (same,) = store.entries()
    store.write("a.jpg", b"after!")
    (after,) = store.entries()
    assert before == same
    assert before.version != after.version


def test_a_reader_never_sees_a_half_written_file(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    blocks = [bytes([byte]) * 3_000_000 for byte in b"ab"]
    store.write("photo", blocks[0])
    done = threading.Event()

    def write() -> None:
        for turn in range(30):
            store.write("photo", blocks[turn % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert store.read("photo") in blocks
        assert [entry.path for entry in store.entries()] == ["photo"]
    writer.join()


def test_what_a_killed_writer_left_is_not_listed(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write("images/a.png", b"whole")
    (tmp_path / "images" / f"{TEMPORARY}123").write_bytes(b"ha")
    assert [entry.path for entry in store.entries()] == ["images/a.png"]


def test_a_write_only_where_there_is_none(store: Store) -> None:
    assert store.tag("a/b") is None
    assert store.write_if("a/b", b"one", None)
    assert not store.write_if("a/b", b"two", None)
    assert store.read("a/b") == b"one"
    assert [entry.path for entry in store.entries()] == ["a/b"]


def test_a_write_only_over_what_was_seen(store: Store) -> None:
    store.write("a/b", b"one")
    seen = store.tag("a/b")
    assert store.write_if("a/b", b"three", seen)
    assert not store.write_if("a/b", b"four", seen)
    assert not store.write_if("nothing", b"four", seen)
    assert store.read("a/b") == b"three" and store.tag("a/b") != seen
    store.remove("a/b")
    store.remove("a/b")
    assert store.tag("a/b") is None


@pytest.mark.parametrize("over", [False, True])
def test_of_many_writers_at_once_one_succeeds(tmp_path: Path, over: bool) -> None:
    store = Store(str(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        for turn in range(50):
            path = f"{turn}"
            if over:
                store.write(path, b"x")
            tag = store.tag(path)
            won = list(pool.map(lambda n, path=path, tag=tag: store.write_if(path, b"%d" % n, tag), range(8)))
            assert won.count(True) == 1
            assert store.read(path) == b"%d" % won.index(True)
    assert len(list(tmp_path.iterdir())) == 50, "nothing temporary stays"


def test_where_a_folder_knows_no_links(tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    assert local_write_if(tmp_path / "a", b"one", None, link=refuse)
    assert not local_write_if(tmp_path / "a", b"two", None, link=refuse)
    assert (tmp_path / "a").read_bytes() == b"one"


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    (tmp_path / "taken").mkdir()
    with pytest.raises(StorageError, match="is a folder, not a file") as error:
        store.write("taken", b"data")
    assert error.value.code == "storage"
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_errors_name_the_object(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = Store(str(tmp_path))
    with pytest.raises(StorageError, match="is a folder"):
        store.read(".")
    with pytest.raises(StorageError, match="file/below"):
        store.write("file/below", b"")
    with pytest.raises(StorageError, match="file/below"):
        store.read("file/below")
    with pytest.raises(StorageError, match="too long"):
        store.write("n" * 300, b"")


def test_an_unknown_scheme_is_a_clear_error() -> None:
    with pytest.raises(StorageError, match="floppy") as error:
        Store("floppy://a/b")
    assert error.value.code == "storage" and "s3://" in error.value.hint


def test_links_to_photos_are_photos(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.jpg").write_bytes(b"photo")
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "link.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    store = Store(str(folder))
    assert [(entry.path, entry.size_bytes) for entry in store.entries()] == [("link.jpg", 5)]
    assert store.read("link.jpg") == b"photo"


def test_a_link_that_leads_nowhere_is_listed_and_says_so_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    (tmp_path / "folder").mkdir()
    (tmp_path / "round").symlink_to(tmp_path / "folder")
    store = Store(str(tmp_path))
    assert [entry.path for page in store.pages() for entry in page] == ["gone.jpg"]
    with pytest.raises(StorageError) as error:
        store.read("gone.jpg")
    assert error.value.code == "not-found"


def test_a_bare_name_lies_in_the_folder_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store, name = split_uri("list.csv")
    assert (store.uri(name), name) == (str(tmp_path / "list.csv"), "list.csv")
    assert split_uri("/list.csv")[0].uri("list.csv") == "/list.csv"


def test_names_that_are_too_long(tmp_path: Path) -> None:
    store, fits, too_long = Store(str(tmp_path)), f"a/{'é' * 127}/b", f"a/{'é' * 128}/b"
    store.check_name(fits)
    store.write(fits, b"")
    for refused in (store.check_name, lambda path: store.write(path, b"")):
        with pytest.raises(StorageError) as error:
            refused(too_long)
        assert error.value.code == "name-too-long"


def test_a_home_folder_is_found() -> None:
    assert Store("~/photos").uri() == str(Path.home() / "photos")


_PART = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="/\0\n\r"), min_size=1, max_size=20)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(parts=st.lists(_PART.filter(lambda part: part.strip(".") != ""), min_size=1, max_size=3))
def test_any_name_that_a_file_system_takes(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    path = "/".join(parts)
    if len(path.encode()) > 200 or parts[-1].startswith(TEMPORARY):
        return
    store = Store(str(tmp_path_factory.mktemp("any")))
    store.write(path, b"data")
    assert [entry.path for entry in store.entries()] == [path]
    assert store.read(path) == b"data"
