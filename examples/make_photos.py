"""Writes examples/photos from the sample photos inside two Python wheels.

    pip download --no-deps --dest WHEEL_DIR matplotlib scikit-image
    python examples/make_photos.py WHEEL_DIR

Needs Pillow and numpy. The photos are read straight out of the wheels and checked by sha256, and every random number
comes from a fixed seed, so the same Pillow writes the same bytes. Sources and licences: examples/README.md.
"""

import argparse
import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageDraw, ImageFilter

PHOTOS = Path(__file__).parent / "photos"

# Which wheel holds a photo, under which name, and the sha256 of its bytes; some are for tests/quality alone.
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

# The sidecar of portrait.jpg is portrait.txt; its text is the photo's caption.
CAPTIONS = {
    "portraits/hopper.txt": "An official portrait of Commodore Grace Hopper in a dark Navy uniform and white cap,"
    " in front of a flag and a blue backdrop.",
    "animals/chelsea-degraded.txt": "A close-up of a ginger tabby cat with green eyes looking to the right.",
}


def read_source(wheels: Path, name: str) -> Image.Image:
    """Returns a source photo, decoded; raises SystemExit when the wheels do not hold the expected bytes."""
    pattern, member, sha256 = SOURCES[name]
    for wheel in sorted(wheels.glob(pattern)):
        data = zipfile.ZipFile(wheel).read(member)
        if hashlib.sha256(data).hexdigest() == sha256:
            return Image.open(io.BytesIO(data))
    raise SystemExit(f"error: no {pattern} in {wheels} holds {member} with sha256 {sha256}")


def shrink(photo: Image.Image, long_px: int) -> Image.Image:
    """Returns a copy with the long side at ``long_px`` and no metadata."""
    scale = long_px / max(photo.size)
    small = photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.LANCZOS)
    return Image.fromarray(np.asarray(small))


def degrade(photo: Image.Image, long_px: int, blur_px: float, noise: float, seed: int) -> Image.Image:
    """Returns a blurred, shrunk and noisy copy.

    Args:
        photo: The clean photo.
        long_px: Long side of the copy.
        blur_px: Radius of the blur, in pixels of the clean photo.
        noise: Standard deviation of the noise, of 255.
        seed: Seed of the noise.
    """
    small = np.asarray(shrink(photo.filter(ImageFilter.GaussianBlur(blur_px)), long_px), dtype=np.float64)
    noisy = small + np.random.default_rng(seed).normal(0.0, noise, small.shape)
    return Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8))


def sideways(photo: Image.Image) -> tuple[Image.Image, Image.Exif]:
    """Returns the photo turned a quarter to the left, and the EXIF block that tells viewers to turn it back."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned 90 degrees clockwise
    exif[ExifTags.Base.Artist] = "U.S. Navy"
    exif[ExifTags.Base.ImageDescription] = "Commodore Grace M. Hopper, USNR, official portrait"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "1984:01:20 00:00:00"
    return photo.transpose(Image.Transpose.ROTATE_90), exif


def oval(photo: Image.Image) -> Image.Image:
    """Returns the photo with a soft oval as its alpha channel, like a print in an oval mount."""
    mask = Image.new("L", photo.size, 0)
    ImageDraw.Draw(mask).ellipse((8, 8, photo.width - 9, photo.height - 9), fill=255)
    mounted = photo.copy()
    mounted.putalpha(mask.filter(ImageFilter.GaussianBlur(3)))
    return mounted


def save(image: Image.Image, name: str, **options: object) -> Path:
    """Writes ``image`` to examples/photos and returns its path."""
    path = PHOTOS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def main() -> None:
    """Writes all photos and captions."""
    parser = argparse.ArgumentParser(description="Writes examples/photos from the matplotlib and scikit-image wheels.")
    parser.add_argument("wheels", type=Path, metavar="WHEEL_DIR", help="folder with the two wheels")
    wheels = parser.parse_args().wheels

    portrait, exif = sideways(shrink(read_source(wheels, "hopper"), 240))
    save(portrait, "portraits/hopper.jpg", quality=88, exif=exif)

    astronaut = read_source(wheels, "astronaut")
    save(degrade(astronaut, 192, 2.0, 6.0, seed=1), "portraits/astronaut-degraded.jpg", quality=45)

    save(shrink(read_source(wheels, "camera"), 192), "outdoors/camera-grey.png", optimize=True)

    chelsea = read_source(wheels, "chelsea")
    save(degrade(chelsea, 232, 1.5, 8.0, seed=2), "animals/chelsea-degraded.jpg", quality=30)

    coffee = read_source(wheels, "coffee")
    save(oval(shrink(coffee, 192)), "still-life/coffee-alpha.png", optimize=True)
    save(degrade(coffee, 160, 3.0, 4.0, seed=3), "still-life/coffee-degraded.jpg", quality=60)

    # A part of the picture, as the galaxies of the whole one would shrink to dots.
    deep_field = read_source(wheels, "deep-field")
    profile = deep_field.info["icc_profile"]  # sRGB, kept to show that profiles travel
    described = Image.Exif()
    described[ExifTags.Base.ImageDescription] = "Galaxies in the Hubble eXtreme Deep Field"
    part = shrink(deep_field.crop((300, 400, 780, 800)), 240)
    save(part, "space/deep-field.jpg", quality=90, icc_profile=profile, exif=described)

    truncated = save(shrink(astronaut, 200), "damaged/truncated.jpg", quality=85)
    data = truncated.read_bytes()
    truncated.write_bytes(data[: len(data) // 2])

    for name, caption in CAPTIONS.items():
        (PHOTOS / name).write_text(caption + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
