"""What a run will take, before it begins: sizes from the headers of a sample of photos, rates from the index.

The work of a photo is taken to be proportional to the pixels that the networks see. Networks in windows keep to that
closely; what they do once per photo, and photos of less than one window, do not.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from pipeline import commit, history, index, routing, rows
from pipeline.database import TableFile, database, into_file
from pipeline.limits import check_size
from pipeline.photos.header import check_name, read_header
from pipeline.ranges import open_ranges
from pipeline.rows import Row
from pipeline.settings import RunSettings
from pipeline.sources import opened
from pipeline.storage import Store
from supir_core.errors import PhotoError, StorageError, SupirError
from supir_core.presets import Preset
from supir_core.sizes import planned

READERS = 32
PER_ROUND = 1000  # photos that are asked for before the first of them is answered for
EDGES_MP = (0.5, 1, 2, 5, 10, 20, 50, 100)
RATE_ROWS = 10_000  # the newest rows that a rate is taken from

_EXTENSION = r"lower(regexp_extract(uri, '[^/.](\.[^./]+)$', 1))"
_FORMATS = f"""
    select extension, count(*) as photos, sum(source_bytes) as bytes, min(photo_id) as example
    from (select *, {_EXTENSION} as extension from photos) group by extension order by photos desc, extension
"""
_SAMPLE = f"""
    select * from photos where not list_contains($refused, {_EXTENSION})
    order by md5_number('sample ' || photo_id) {{limit}}
"""
_MEASURED = f"""
    select run, worker, preset_digest, source_height, source_width, seconds, finished_at
    from every_row
    where model_digest = $model and status = '{rows.RESTORED}' and restore_s > 0 and (preset_digest = $look) = $ours
    order by finished_at desc limit {RATE_ROWS}
"""


class Format(NamedTuple):
    """Photos with one extension."""

    extension: str
    photos: int
    bytes: int | None  # None where nobody knows
    example: str
    refusal: PhotoError | None  # by the name alone


class Refused(NamedTuple):
    """Photos that a run would refuse, or could not read, for one reason."""

    photos: int
    example: str
    error: SupirError


@dataclass
class Survey:
    """What the headers of photos say, added up."""

    photos: int = 0
    megapixels: list[int] = field(default_factory=lambda: [0] * (len(EDGES_MP) + 1))  # photos between those edges
    refused: dict[str, Refused] = field(default_factory=dict)  # by error code
    seen: float = 0.0  # megapixels that the networks will see; see `Sampled`
    seen_squared: float = 0.0

    def add(self, found: Sampled) -> None:
        """Count one photo."""
        self.photos += 1
        self.seen += found.seen
        self.seen_squared += found.seen**2
        if found.megapixels is not None:
            self.megapixels[bisect_right(EDGES_MP, found.megapixels)] += 1
        if found.error is not None:
            before = self.refused.get(found.error.code, Refused(0, found.photo_id, found.error))
            self.refused[found.error.code] = before._replace(photos=before.photos + 1)

    def work(self, photos: int) -> Work:
        """The work of so many photos, of which these are a sample."""
        if not self.photos:
            return Work(0.0, 0.0)
        mean = self.seen / self.photos
        variance = max(0.0, self.seen_squared / self.photos - mean**2)
        unknown = max(0.0, 1 - self.photos / photos)  # nothing is, once all have been looked at
        return Work(photos * mean, photos * 1.96 * math.sqrt(variance / self.photos * unknown))


class Sampled(NamedTuple):
    """What the header of one photo says."""

    photo_id: str
    megapixels: float | None  # None where it cannot be read
    seen: float  # megapixels that the networks will see, added up over looks by their steps against the first one's
    error: SupirError | None


class Work(NamedTuple):
    """What the networks will see, in megapixels, and how far that may be off (95 %)."""

    megapixels: float
    margin: float


class Rate(NamedTuple):
    """How fast one worker is."""

    megapixels_per_s: float  # of what the networks see
    photos: int  # that it was measured with
    same_look: bool  # else with other presets, by their number of steps


def formats(photos: TableFile) -> list[Format]:
    """The photos of a manifest by extension."""
    with database(photos=photos) as connection:
        found = connection.execute(_FORMATS).fetchall()
    return [
        Format(extension, count, None if size is None else int(size), example, _refusal(f"x{extension}"))
        for extension, count, size, example in found
    ]


def _refusal(name: str) -> PhotoError | None:
    try:
        check_name(name)
    except PhotoError as error:
        return error
    return None


def sample(photos: TableFile, refused: Sequence[str], count: int | None) -> TableFile:
    """Some photos at random, the same each time.

    Args:
        photos: rows.MANIFEST.
        refused: extensions to leave out.
        count: how many; all if None.
    """
    chosen = _SAMPLE.format(limit="" if count is None else f"limit {count}")
    with database(photos=photos) as connection:
        return into_file(connection.sql(chosen, params={"refused": list(refused)}), rows.MANIFEST)


def survey(
    photos: TableFile, settings: RunSettings, on_read: Callable[[int, int], None] = lambda done, total: None
) -> Survey:
    """Read the headers of photos, in parallel.

    Args:
        photos: rows.MANIFEST.
        settings: of the run.
        on_read: called with how many have been read, and how many there are.
    """
    found = Survey()
    with ThreadPoolExecutor(READERS) as readers:
        for some in photos.rounds(PER_ROUND):
            for sampled in readers.map(partial(_sampled, settings), some.to_pylist()):
                found.add(sampled)
                on_read(found.photos, photos.num_rows)
    return found


def _sampled(settings: RunSettings, photo: Row) -> Sampled:
    megapixels, looks = None, [look for look in settings.each_look() if look.preset.digest in _wanted(settings, photo)]
    try:
        for look in looks:
            commit.check_names(Store(settings.output), look.preset.folder, photo["path"], settings.format)
        store, name = opened(photo["uri"], settings)
        size = store.size(name) if photo["source_bytes"] is None else photo["source_bytes"]
        if size is None:
            raise StorageError(f"{photo['uri']} does not exist", code="not-found")
        with open_ranges(store, name, size) as file:
            header = read_header(file)
        megapixels = header.height * header.width / 1e6
    except (PhotoError, StorageError) as error:
        return Sampled(photo["photo_id"], megapixels, 0.0, error)
    seen, refusal = 0.0, None
    for look in looks:
        plan = planned(look.preset.size, header.height, header.width)
        steps = look.preset.sampling.num_steps / settings.preset.sampling.num_steps
        try:
            check_size(plan, header.format, look)
            if reason := routing.skipped_by_header(header, plan, look):
                raise routing.as_refusal(reason)
            seen += plan.network_height * plan.network_width / 1e6 * steps
        except PhotoError as error:
            refusal = error
    return Sampled(photo["photo_id"], megapixels, seen, refusal)


def _wanted(settings: RunSettings, photo: Row) -> list[str]:
    return photo["looks"] or [preset.digest for preset in settings.presets]


def measured_rate(settings: RunSettings) -> Rate | None:
    """How fast one worker was in this output with the same model; None if it has not been used here.

    From the first photo that a worker began to the last that it finished, so what it waited for counts, and what
    several photos did at once does not count twice. Rows of the same look are preferred; those of other looks count by
    their number of steps.
    """
    store = Store(settings.output)
    for same_look in (True, False):
        params = {"model": settings.model_digest, "look": settings.preset.digest, "ours": same_look}
        found = index.read(store, partial(_rows_with_times, params))
        looks = (
            {settings.preset.digest: settings.preset}
            if same_look
            else history.looks_of(store, {row["run"] for row in found})
        )
        found = [row for row in found if row["preset_digest"] in looks]
        seconds = sum(
            (max(row["finished_at"] for row in theirs) - min(row["begun"] for row in theirs)).total_seconds()
            for theirs in _by_worker(found)
        )
        if seconds > 0:
            steps = sum(_megapixel_steps(row, looks[row["preset_digest"]]) for row in found)
            return Rate(steps / settings.preset.sampling.num_steps / seconds, len(found), same_look)
    return None


def _rows_with_times(params: dict[str, Any], connection: Any) -> list[Row]:
    answer = connection.sql(
        f"select *, finished_at - to_microseconds((1e6 * seconds)::bigint) as begun from ({_MEASURED})", params=params
    )
    found: list[Row] = answer.to_arrow_table().to_pylist()
    return found


def _by_worker(found: list[Row]) -> list[list[Row]]:
    workers: dict[tuple[str, str], list[Row]] = {}
    for row in found:
        workers.setdefault((row["run"], row["worker"]), []).append(row)
    return list(workers.values())


def _megapixel_steps(row: Row, look: Preset) -> float:
    size = planned(look.size, row["source_height"], row["source_width"])
    return size.network_height * size.network_width / 1e6 * look.sampling.num_steps
