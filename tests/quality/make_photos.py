"""Writes tests/quality/photos from the sample photos inside three Python wheels.

    pip download --no-deps --dest WHEEL_DIR matplotlib scikit-image scikit-learn
    python -m tests.quality.make_photos WHEEL_DIR

Each photo is shrunk, which takes away its own noise and compression, and cut to its middle. Sources and licences:
README.md beside the photos.
"""

import hashlib
import io
import sys
import zipfile
from pathlib import Path

from PIL import Image

PHOTOS = Path(__file__).with_name("photos")
SIDE_PX = 192

# Which wheel holds a photo, under which name, and the sha256 of its bytes.
SOURCES = {
    "astronaut": (
        "scikit_image-*.whl",
        "skimage/data/astronaut.png",
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    ),
    "camera": (
        "scikit_image-*.whl",
        "skimage/data/camera.png",
        "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
    ),
    "chelsea": (
        "scikit_image-*.whl",
        "skimage/data/chelsea.png",
        "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    ),
    "china": (
        "scikit_learn-*.whl",
        "sklearn/datasets/images/china.jpg",
        "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
    ),
    "coffee": (
        "scikit_image-*.whl",
        "skimage/data/coffee.png",
        "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    ),
    "deep-field": (
        "scikit_image-*.whl",
        "skimage/data/hubble_deep_field.jpg",
        "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4",
    ),
    "flower": (
        "scikit_learn-*.whl",
        "sklearn/datasets/images/flower.jpg",
        "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
    ),
    "hopper": (
        "matplotlib-*.whl",
        "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
        "a8ca6d734765703b09728ab47fe59f473d93ae3967fc24c7c0288c3c7adb7130",
    ),
    "rocket": (
        "scikit_image-*.whl",
        "skimage/data/rocket.jpg",
        "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
    ),
}


def read_source(wheels: Path, name: str) -> Image.Image:
    """The photo, decoded; SystemExit if the wheels do not hold the expected bytes."""
    pattern, member, sha256 = SOURCES[name]
    for wheel in sorted(wheels.glob(pattern)):
        data = zipfile.ZipFile(wheel).read(member)
        if hashlib.sha256(data).hexdigest() == sha256:
            return Image.open(io.BytesIO(data)).convert("RGB")
    raise SystemExit(f"error: no {pattern} in {wheels} holds {member} with sha256 {sha256}")


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
        cut(read_source(Path(sys.argv[1]), name)).save(PHOTOS / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
