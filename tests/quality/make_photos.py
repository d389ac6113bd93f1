"""Writes tests/quality/photos from the sample photos inside three Python wheels.

    pip download --no-deps --dest WHEEL_DIR matplotlib scikit-image scikit-learn
    python -m tests.quality.make_photos WHEEL_DIR

Each photo is shrunk, which takes away its own noise and compression, and cut to its middle. Sources and licences:
README.md beside the photos.
"""

import sys
from pathlib import Path

from PIL import Image

from examples.make_photos import SOURCES, read_source

PHOTOS = Path(__file__).with_name("photos")
SIDE_PX = 192


def cut(photo: Image.Image) -> Image.Image:
    """The middle square of the photo, with sides of SIDE_PX."""
    side = min(photo.size)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    square = (left, top, left + side, top + side)
    return photo.resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS, box=square)


def main() -> None:
    """Write the photos."""
    PHOTOS.mkdir(exist_ok=True)
    for name in SOURCES:
        cut(read_source(Path(sys.argv[1]), name).convert("RGB")).save(PHOTOS / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
