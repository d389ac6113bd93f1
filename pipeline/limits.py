"""What is refused because of its size, before anything is computed: the same in a run and in its plan."""

from __future__ import annotations

from pipeline.photos.encode import check_fits, format_of
from pipeline.settings import RunSettings
from supir_core.errors import PhotoError
from supir_core.sizes import SizePlan


def check_size(size: SizePlan, source_format: str, settings: RunSettings) -> None:
    """Refuse a photo whose result is larger than the run or the file format allows.

    Args:
        size: as planned.
        source_format: the photo's, by Pillow's name.
        settings: of the run.

    Raises:
        PhotoError: `output-limit` or `too-large`.
    """
    check_fits(size.height, size.width, format_of(settings.format, source_format))
    megapixels = max(size.network_height * size.network_width, size.height * size.width) / 1e6
    if megapixels > settings.max_megapixels:
        raise PhotoError(
            f"restoring it takes {megapixels:.0f} megapixels; the limit is {settings.max_megapixels:g}",
            hint="raise --max-megapixels, or lower size.upscale",
            code="too-large",
        )
