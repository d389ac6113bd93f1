"""`supir captions`: the captions of an output, out to a file for people to edit, and back in."""

from __future__ import annotations

import codecs
import csv
import io
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.captions import edits
from pipeline.rows import Row
from pipeline.storage import Store, split_uri
from supir_core.errors import InputError

COLUMNS = ("photo_id", "caption", "source", "digest", "preset", "uri")


def export_or_import(output: str, to: str | None, back_from: str | None, as_json: bool) -> None:
    """One of the two.

    Raises:
        InputError: as `import_`, or none or both are asked for.
    """
    if (to is None) == (back_from is None):
        raise InputError("give either --export FILE or --import FILE", hint="see: supir captions --help")
    if to == "-" and as_json:
        raise InputError("--export - prints captions, not JSON", hint="give --export FILE, or leave out --json")
    if to is not None:
        export(output, to, as_json)
    else:
        import_(output, back_from or "", as_json)


def export(output: str, target: str, as_json: bool) -> None:
    """Write the caption of every photo of an output to a CSV file, or to stdout (`-`).

    Raises:
        InputError: there is no index (`no-index`).
    """
    with TemporaryDirectory(prefix="supir-") as folder:
        file = Path(folder) / "captions.csv"
        count = edits.current(Store(output), lambda rows: _write(rows, file))
        if target == "-":
            with file.open(encoding="utf-8-sig", newline="") as lines:
                shutil.copyfileobj(lines, sys.stdout)
            return
        place, name = split_uri(Store(target).uri())
        place.upload(str(file), name)
    _say({"exported": count, "file": target}, f"{count} captions are in {target}", as_json)


def _write(rows: Iterator[Row], file: Path) -> int:
    count = 0
    with file.open("w", encoding="utf-8-sig", newline="") as lines:  # the mark lets Excel see that it is UTF-8
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            writer.writerow([row[column] for column in COLUMNS])
            count += 1
    return count


def import_(output: str, source: str, as_json: bool) -> None:
    """Take captions that people have edited: their photos are restored again by the next run.

    Raises:
        InputError: no index (`no-index`), or a file that is no list of captions of its photos (`captions-file`).
    """
    store, given = Store(output), _read(source)
    found = edits.compare(store, given)
    unknown = [row["photo_id"] for row in found if row["unknown"]]
    if unknown:
        raise InputError(
            f"{source} has captions of {len(unknown)} photos that are not in {output}, such as {unknown[0]!r}",
            hint="photo_id as supir captions --export writes it",
            code="captions-file",
        )
    changed = [row for row in found if row["caption"] != _one_line(row["before"])]
    prompted = [row["photo_id"] for row in changed if row["prompted"]]
    if prompted:
        raise InputError(
            f"{source} changes captions of {len(prompted)} photos that have a prompt, such as {prompted[0]!r}",
            hint="change the prompt in the list that they come from: it stands before every caption",
            code="captions-file",
        )
    if changed:
        edits.append(store, changed)
    text = f"{len(changed)} captions are new" + ("; the next supir run restores their photos again" if changed else "")
    _say({"imported": len(changed), "unchanged": len(found) - len(changed)}, text, as_json)


def _read(source: str) -> list[dict[str, str]]:
    try:
        data = _bytes_of(source)
        text = data.decode("utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")
        if "\0" in text:
            raise InputError(f"{source} is no text", hint="save it as CSV UTF-8", code="captions-file")
        head = text.partition("\n")[0]
        lines = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count))
        if not {"photo_id", "caption"} <= set(lines.fieldnames or ()):
            raise InputError(f"{source} lacks the columns photo_id and caption", code="captions-file")
        given: dict[str, str] = {}
        for line in lines:
            if None in line or line["caption"] is None:  # more fields than columns, or fewer
                raise InputError(
                    f"line {lines.line_num} of {source} has more or fewer fields than there are columns",
                    hint='a caption with commas stands in quotes: "a boy, a dog"',
                    code="captions-file",
                )
            photo_id, caption = line["photo_id"], _one_line(line["caption"])
            if given.setdefault(photo_id, caption) != caption:
                raise InputError(f"{source} has two captions of {photo_id!r}", code="captions-file")
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{source} is no CSV file in UTF-8 or UTF-16: {error}", hint="save it as CSV UTF-8", code="captions-file"
        ) from error
    return [{"photo_id": photo_id, "caption": caption} for photo_id, caption in given.items()]


def _bytes_of(source: str) -> bytes:
    if source == "-":
        return sys.stdin.buffer.read()
    store, name = split_uri(Store(source).uri())
    return store.read(name)


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _say(facts: dict[str, object], text: str, as_json: bool) -> None:
    sys.stdout.write((json.dumps(facts, ensure_ascii=False) if as_json else text) + "\n")
