"""One look per photo, chosen by a rule over the index, copied to a folder of its own."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline import index, rows
from pipeline.database import TableFile, database, into_file
from pipeline.rows import Row
from pipeline.storage import Store
from supir_core.errors import InputError

LIST = "selection.csv"
CLOSEST_FIRST = "fidelity_db desc nulls last"
COPIES_AT_ONCE = 16
PER_ROUND = 1000

CHOSEN = pa.schema(
    [
        rows.INDEX.field(name)
        for name in ("photo_id", "path", "image", "preset", "preset_digest", "tau_r", "fidelity_db", "fidelity_de")
    ]
)

_CHOSEN = f"""
    select {", ".join(CHOSEN.names)} from photos
    where status = '{rows.RESTORED}' and image is not null and path is not null and ({{condition}})
    qualify row_number() over (partition by photo_id order by {{order}}, preset_digest) = 1
    order by photo_id
"""
_PHOTOS = f"select count(distinct photo_id) from photos where status = '{rows.RESTORED}'"


class Selection(NamedTuple):
    """What a rule chooses."""

    chosen: TableFile  # CHOSEN: a row per photo
    without: int  # restored photos of which no look meets the rule


def choose(store: Store, rule: str) -> Selection:
    """The look of every photo that meets a rule, and of several that do the first one.

    Args:
        store: the output.
        rule: a condition over the columns of the index and, if you like, `order by` and what comes first; else the look
            that is closest to the photo.

    Raises:
        InputError: there is no index (`no-index`), or the rule is no SQL (`sql`).
    """
    index.check_exists(store)
    condition, *order = re.split(r"\border\s+by\b", rule, maxsplit=1, flags=re.IGNORECASE)
    sql = _CHOSEN.format(condition=condition.strip() or "true", order=order[0] if order else CLOSEST_FIRST)

    def read(connection: Any) -> Selection:
        with index.answering():
            chosen = into_file(connection.sql(sql), CHOSEN)
        return Selection(chosen, connection.execute(_PHOTOS).fetchone()[0] - chosen.num_rows)

    return index.read(store, read)


def export(
    store: Store,
    chosen: TableFile,
    to: Store,
    link: bool = False,
    on_done: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Put the chosen pictures into a folder under their photos' paths, and a list of them beside: `selection.csv`.

    Args:
        store: the output.
        chosen: CHOSEN.
        to: where; objects of one S3 store are copied by the store itself.
        link: make symbolic links instead of copies.
        on_done: called with the number of pictures that are there, and of all.

    Raises:
        InputError: links are asked for, but not between two local folders; or two pictures would have one name.
        StorageError: a picture is missing, or cannot be written.
    """
    if link and not (store.is_local and to.is_local):
        raise InputError("--link makes links between local folders only", hint="leave it out to copy")
    _check_apart(chosen)
    done = 0
    with ThreadPoolExecutor(COPIES_AT_ONCE) as workers:
        for some in chosen.rounds(PER_ROUND):
            for _ in workers.map(lambda row: _put(store, row, to, link), some.to_pylist()):
                done += 1
                on_done(done, chosen.num_rows)
    to.write(LIST, "".join(_list(chosen)).encode())


def _put(store: Store, row: Row, to: Store, link: bool) -> None:
    (store.link_to if link else store.copy_to)(row["image"], to, target(row))


def target(row: Row) -> str:
    """Where a picture goes, relative: the photo's path with the result's extension behind its own."""
    return f"{row['path']}.{row['image'].rpartition('.')[2]}"


def _check_apart(chosen: TableFile) -> None:
    with database(chosen=chosen) as connection:
        twice = connection.execute("select path from chosen group by path having count(*) > 1 limit 1").fetchone()
    if twice:
        raise InputError(
            f"two photos of this output have the path {twice[0]}",
            hint="leave one of them out by its photo_id, in the rule",
        )


def _list(chosen: TableFile) -> Iterator[str]:
    """The lines of the list, with the same columns."""
    yield ",".join((*CHOSEN.names, "file")) + "\n"
    for some in chosen.rounds(PER_ROUND):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows((*row.values(), target(row)) for row in some.to_pylist())
        yield text.getvalue()
