"""What is to be restored: folders, single photos and lists."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import rows
from pipeline.manifest import Manifest, read_caption, read_manifest, safe_path
from supir_core.errors import InputError, SupirError
from tests.pipeline.photographs import put


def ids(manifest: Manifest) -> list[str]:
    found: list[str] = manifest.photos.read()["photo_id"].to_pylist()
    return found


def column(manifest: Manifest, name: str) -> dict[str, object]:
    return dict(zip(ids(manifest), manifest.photos.read()[name].to_pylist(), strict=True))


def test_a_folder_with_sub_folders_is_sorted_by_path(tmp_path: Path) -> None:
    put(tmp_path, {"b.jpg": "b", "a/z.png": "z", "a/b/c.TIF": "c", "a/B.JPeG": "B"})
    manifest = read_manifest(str(tmp_path))
    assert ids(manifest) == ["a/B.JPeG", "a/b/c.TIF", "a/z.png", "b.jpg"]
    assert manifest.photos.schema.names == rows.MANIFEST.names
    assert column(manifest, "uri")["b.jpg"] == str(tmp_path / "b.jpg")
    assert column(manifest, "path")["a/b/c.TIF"] == "a/b/c.TIF"
    assert column(manifest, "source_bytes")["b.jpg"] == 1
    assert manifest.ignored == {}


def test_captions_lie_beside_photos(tmp_path: Path) -> None:
    put(tmp_path, {"a.jpg": "", "a.txt": "A", "b.v2.jpg": "", "b.v2.jpg.txt": "B", "c.jpg": "", "d.jpg": ""})
    put(tmp_path, {"d.txt": "this one wins", "other.txt": "belongs to none"})
    manifest = read_manifest(str(tmp_path))
    assert column(manifest, "sidecar") == {
        "a.jpg": str(tmp_path / "a.txt"),
        "b.v2.jpg": str(tmp_path / "b.v2.jpg.txt"),
        "c.jpg": "",
        "d.jpg": str(tmp_path / "d.txt"),
    }
    assert manifest.ignored == {".txt": 1}


def test_what_is_not_a_photo_is_counted(tmp_path: Path) -> None:
    put(tmp_path, {"a.jpg": "", "x/notes.MD": "", "y/more.md": "", "LICENSE": "", ".DS_Store": "", "z/._a.jpg": ""})
    assert read_manifest(str(tmp_path)).ignored == {".md": 2, "without extension": 1, "hidden": 2}


def test_one_photo(tmp_path: Path) -> None:
    put(tmp_path, {"a [1].jpg": "a", "b.jpg": "b"})
    manifest = read_manifest(str(tmp_path / "a [1].jpg"))
    assert ids(manifest) == ["a [1].jpg"]
    assert column(manifest, "source_version") == {
        "a [1].jpg": column(read_manifest(str(tmp_path)), "source_version")["a [1].jpg"]
    }


def test_the_limit_keeps_the_first_by_id(tmp_path: Path) -> None:
    put(tmp_path, {f"{n}.jpg": "" for n in (3, 1, 2)})
    assert ids(read_manifest(str(tmp_path), limit=2)) == ["1.jpg", "2.jpg"]


def write_list(path: Path, listed: list[dict[str, object]]) -> Path:
    """The same list as CSV, JSONL or Parquet, by extension."""
    if path.suffix == ".csv":
        names = list(listed[0])
        lines = [",".join(names)] + [",".join('"' + str(row[name]) + '"' for name in names) for row in listed]
        path.write_text("\n".join(lines), encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in listed), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(listed), path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_list(tmp_path: Path, suffix: str) -> None:
    source = write_list(
        tmp_path / f"list{suffix}",
        [
            {"uri": "sub/b.jpg", "photo_id": "007", "caption": "a man, a plan", "extra": 1},
            {"uri": "/far/a.jpg", "photo_id": "003", "caption": "", "extra": 2},
            {"uri": "s3://bucket/key/c.jpg", "photo_id": "005", "caption": "größe", "extra": 3},
        ],
    )
    manifest = read_manifest(str(source))
    assert column(manifest, "uri") == {
        "003": "/far/a.jpg",
        "005": "s3://bucket/key/c.jpg",
        "007": f"{tmp_path}/sub/b.jpg",
    }
    assert column(manifest, "path") == {"003": "far/a.jpg", "005": "bucket/key/c.jpg", "007": "sub/b.jpg"}
    assert column(manifest, "caption") == {"003": None, "005": "größe", "007": "a man, a plan"}
    assert column(manifest, "sidecar") == {"003": None, "005": None, "007": None}, "nobody has looked yet"


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_list_needs_only_uris(tmp_path: Path, suffix: str) -> None:
    source = write_list(tmp_path / f"list{suffix}", [{"uri": "b.jpg"}, {"uri": "a.jpg"}])
    assert ids(read_manifest(str(source))) == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_list_may_name_presets_and_prompts(tmp_path: Path, suffix: str) -> None:
    source = write_list(
        tmp_path / f"list{suffix}",
        [
            {"uri": "both.jpg", "preset": "faithful", "prompt": ""},
            {"uri": "both.jpg", "preset": "paper", "prompt": "a street"},
            {"uri": "any.jpg", "preset": "", "prompt": "a house"},
            {"uri": "paper.jpg", "preset": "paper", "prompt": ""},
        ],
    )
    faithful, paper, all_of_them = (
        read_manifest(str(source), presets=names) for names in (["faithful"], ["paper"], None)
    )
    assert column(faithful, "prompt") == {"any.jpg": "a house", "both.jpg": None}
    assert column(paper, "prompt") == {"any.jpg": "a house", "both.jpg": "a street", "paper.jpg": None}
    assert (faithful.others, paper.others, all_of_them.others) == ({"paper": 2}, {"faithful": 1}, {})
    assert ids(all_of_them) == ["any.jpg", "both.jpg", "both.jpg", "paper.jpg"]
    assert ids(read_manifest(str(source), limit=2, presets=["paper"])) == ["any.jpg", "both.jpg"]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_numbers_in_a_list_are_text(tmp_path: Path, suffix: str) -> None:
    source = write_list(tmp_path / f"list{suffix}", [{"uri": "b.jpg", "photo_id": 7, "caption": 1984}])
    manifest = read_manifest(str(source))
    assert column(manifest, "caption") == {"7": "1984"}


@pytest.mark.parametrize(
    ("name", "content", "code", "says"),
    [
        ("no-uri.csv", "path,caption\na.jpg,x\n", "manifest", "no column uri"),
        ("broken.csv", "uri,caption\na.jpg\nb.jpg,x,y\n", "manifest", "does not parse"),
        ("latin.csv", b"uri\ngr\xf6\xdfe.jpg\n", "manifest", "does not parse"),
        ("empty.csv", "", "manifest", "does not parse"),
        ("header.csv", "uri\n", "no-photos", "no photos"),
        ("hole.csv", "uri,caption\n,x\n", "manifest", "without a uri"),
        ("broken.jsonl", '{"uri": "a.jpg"}\n{"uri": ', "manifest", "does not parse"),
        ("number.jsonl", '{"uri": 5}', "manifest", "without a uri"),
        ("text.parquet", "uri\na.jpg\n", "manifest", "does not parse"),
        ("twice.csv", "uri,photo_id\na.jpg,1\nb.jpg,1\n", "manifest", "stands for"),
        ("captions.csv", "uri,caption\na.jpg,x\na.jpg,\n", "manifest", "more than once"),
        ("schemes.csv", "uri\ns3://x/b.jpg\ngs://x/b.jpg\n", "manifest", "both be written to x/b.jpg"),
    ],
)
def test_wrong_lists(tmp_path: Path, name: str, content: str | bytes, code: str, says: str) -> None:
    put(tmp_path, {name: content})
    with pytest.raises(InputError, match=says) as error:
        read_manifest(str(tmp_path / name))
    assert error.value.code == code


def test_a_row_that_is_repeated_counts_once(tmp_path: Path) -> None:
    put(tmp_path, {"list.csv": "uri\na.jpg\nb.jpg\na.jpg\n"})
    assert ids(read_manifest(str(tmp_path / "list.csv"))) == ["a.jpg", "b.jpg"]


def test_nothing_to_restore(tmp_path: Path) -> None:
    put(tmp_path, {"notes.md": ""})
    with pytest.raises(InputError, match="no photos") as error:
        read_manifest(str(tmp_path))
    assert error.value.code == "no-photos" and ".jpg" in error.value.hint


@pytest.mark.parametrize("name", ["nowhere", "nothing.jpg", "nothing.csv"])
def test_what_does_not_exist(tmp_path: Path, name: str) -> None:
    with pytest.raises(SupirError, match="does not exist") as error:
        read_manifest(str(tmp_path / name))
    assert error.value.code == "not-found"


@given(st.text(st.sampled_from("ab./\\ ~%:é"), max_size=30))
def test_no_key_leaves_the_output(key: str) -> None:
    path = safe_path(key)
    assert not PurePosixPath(path).is_absolute()
    assert all(part not in ("", ".", "..") for part in path.split("/")) or path == ""
    assert str(PurePosixPath("/output", path)).startswith("/output")


@given(st.lists(st.text(st.sampled_from(".%2EF5/"), max_size=12), min_size=2, max_size=2, unique=True))
def test_no_two_keys_have_one_place(keys: list[str]) -> None:
    assert safe_path(keys[0]) != safe_path(keys[1])


def test_dots_and_written_out_dots_in_one_folder(tmp_path: Path) -> None:
    put(tmp_path, {".../p.jpg": "", "%2E%2E%2E/p.jpg": ""})
    assert len(set(column(read_manifest(str(tmp_path)), "path").values())) == 2


@given(st.lists(st.text(st.sampled_from("ab.é "), min_size=1, max_size=5), min_size=1, max_size=4))
def test_ordinary_paths_stay_as_they_are(parts: list[str]) -> None:
    ordinary = "/".join("x" + part for part in parts)
    assert safe_path(ordinary) == ordinary


@pytest.mark.parametrize("uri", ["https://host/", "/", ".", "..", "a/.."])
def test_a_uri_that_names_no_file(tmp_path: Path, uri: str) -> None:
    """Either the list is refused, or the photo has a place to be written to and can fail there as a row."""
    put(tmp_path, {"list.csv": f"uri\n{uri}\n"})
    try:
        manifest = read_manifest(str(tmp_path / "list.csv"))
    except InputError as error:
        assert error.code == "manifest"
    else:
        assert manifest.photos.read()["path"].to_pylist() != [""]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xef\xbb\xbfA  boy\r\n with a dog.\n", "A boy with a dog."),
        ("größe".encode(), "größe"),
        ("größe".encode("cp1252"), "größe"),
        ("größe".encode("utf-16"), "größe"),
        ("größe".encode("utf-16-be").join([b"\xfe\xff", b""]), "größe"),
        (b"", ""),
        (b" \n\n", ""),
    ],
)
def test_captions_are_one_line(data: bytes, text: str) -> None:
    assert read_caption(data) == text


@pytest.mark.parametrize("data", [b"\xff\xfe\x80bad!", b"\x81\x8d", "größe".encode("utf-16-le"), bytes(10)])
def test_what_is_no_text_is_no_caption(data: bytes) -> None:
    with pytest.raises(ValueError, match="neither UTF-8 nor UTF-16"):
        read_caption(data)


def test_only_the_photos_that_a_file_names(tmp_path: Path) -> None:
    put(tmp_path / "in", {"a.jpg": "", "b c.jpg": "", "sub/d.jpg": ""})
    put(tmp_path, {"ids.txt": "sub/d.jpg\r\n\nb c.jpg\n", "wrong.txt": "a.jpg\nx.jpg\n", "binary.txt": b"\xff\xfe"})
    assert ids(read_manifest(str(tmp_path / "in"), only=str(tmp_path / "ids.txt"))) == ["b c.jpg", "sub/d.jpg"]
    for name, says in (("wrong.txt", "x.jpg"), ("binary.txt", "UTF-8")):
        with pytest.raises(InputError, match=says) as error:
            read_manifest(str(tmp_path / "in"), only=str(tmp_path / name))
        assert error.value.code == "manifest"
