"""Photo files -> upright sRGB arrays, or a PhotoError with a code; never anything else."""

from __future__ import annotations

import io
import pickle
import random
import warnings
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from pipeline.photos.damage import DamagedPhotoError
from pipeline.photos.decode import Decoded, decode, to_8_bits
from supir_core.errors import PhotoError
from tests.pipeline import photographs
from tests.pipeline.photographs import BAD, encoded, jpeg, picture

CODES = {
    "empty",
    "not-an-image",
    "damaged",
    "corrupt",
    "too-small",
    "too-large",
    "raw-photo",
    "unsupported-depth",
    "unsupported-format",
    "out-of-memory",
}


def distance(decoded: Decoded, expected: Image.Image) -> int:
    """Worst difference of any 8-bit value."""
    wanted = np.asarray(expected.convert("RGB")).astype(int)
    assert decoded.pixels.shape == wanted.shape
    return int(np.abs(to_8_bits(decoded.pixels).astype(int) - wanted).max())


@pytest.mark.parametrize("name", BAD)
def test_bad_photos_have_codes(name: str) -> None:
    code, data = BAD[name]
    with pytest.raises(PhotoError) as error:
        decode(data)
    assert error.value.code == code
    assert "\n" not in str(error.value)


def test_absurd_dimensions_cost_no_memory() -> None:
    assert len(photographs.absurd_png()) < 100


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000", "AVIF"])
def test_formats(format_name: str) -> None:
    decoded = decode(encoded(picture(64, 48), format_name))
    assert decoded.format == format_name
    assert (decoded.height, decoded.width) == (64, 48)
    assert decoded.pixels.dtype == np.uint16
    assert distance(decoded, picture(64, 48)) < 40
    assert decoded.alpha is None and not decoded.grey and decoded.warnings == []


def test_the_content_decides_not_the_name() -> None:
    """`decode` gets no name: a PNG that is called .jpg is a PNG."""
    assert decode(encoded(picture(), "PNG")).format == "PNG"


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_eight_orientations_give_the_same_upright_picture(format_name: str, orientation: int) -> None:
    upright = picture(40, 56)
    turn_back = {  # what a camera held that way has stored
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = upright if turn_back is None else upright.transpose(turn_back)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(
        format_name, {}
    )
    decoded = decode(encoded(stored, format_name, exif=exif, **options))
    assert (decoded.height, decoded.width) == (40, 56)
    assert distance(decoded, upright) < 8


GREY = picture(32, 32).convert("L")
ALPHA = Image.linear_gradient("L").resize((32, 32))


def with_alpha(image: Image.Image) -> Image.Image:
    out = image.copy()
    out.putalpha(ALPHA)
    return out


@pytest.mark.parametrize(
    ("image", "format_name", "grey", "alpha"),
    [
        (GREY, "PNG", True, False),
        (GREY, "JPEG", True, False),
        (GREY.convert("1"), "PNG", True, False),
        (GREY.convert("1"), "TIFF", True, False),
        (with_alpha(GREY), "PNG", True, True),
        (picture(32, 32).convert("P"), "PNG", False, False),
        (picture(32, 32).convert("P"), "GIF", False, False),
        (with_alpha(picture(32, 32)), "PNG", False, True),
        (with_alpha(picture(32, 32)), "WEBP", False, True),
        (with_alpha(picture(32, 32)), "TIFF", False, True),
        (picture(32, 32).convert("CMYK"), "JPEG", False, False),
        (picture(32, 32).convert("CMYK"), "TIFF", False, False),
        (picture(32, 32).convert("YCbCr"), "TIFF", False, False),
        (picture(32, 32).convert("LAB"), "TIFF", False, False),
    ],
)
def test_modes(image: Image.Image, format_name: str, grey: bool, alpha: bool) -> None:
    decoded = decode(encoded(image, format_name))
    assert decoded.pixels.shape == (32, 32, 3)
    assert decoded.grey is grey
    assert (decoded.alpha is not None) is alpha
    if grey:
        assert (decoded.pixels[..., 0] == decoded.pixels[..., 2]).all()


def test_alpha_comes_along() -> None:
    decoded = decode(encoded(with_alpha(picture(32, 32)), "PNG"))
    assert decoded.alpha is not None
    assert (to_8_bits(decoded.alpha) == np.asarray(ALPHA)).all()
    assert distance(decoded, picture(32, 32)) == 0, "colours under transparent pixels stay"


def test_a_palette_with_transparency_has_alpha() -> None:
    image = picture(32, 32).quantize(8)
    decoded = decode(encoded(image, "PNG", transparency=0))
    assert decoded.alpha is not None
    assert set(np.unique(decoded.alpha)) == {0, 65535}


def test_sixteen_bits_of_grey_keep_their_range() -> None:
    ramp = np.linspace(0, 65535, 32).astype(np.uint16)
    for format_name in ("PNG", "TIFF"):
        decoded = decode(encoded(Image.fromarray(np.tile(ramp, (32, 1))), format_name))
        assert decoded.grey
        assert (decoded.pixels == ramp[None, :, None]).all()


def test_sixteen_bits_of_grey_with_a_transparent_level() -> None:
    """Rare, but not corrupt."""
    decoded = decode(photographs.png_16_bit(0, 1, transparent=True))
    assert decoded.grey


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_of_colour_stay_sixteen(colour_type: int, channels: int) -> None:
    decoded = decode(photographs.png_16_bit(colour_type, channels))
    ramp = np.arange(32) * 2000
    assert decoded.bits == 16
    assert (decoded.pixels == ramp[None, :, None]).all()
    assert decoded.alpha is None if channels == 3 else (decoded.alpha == ramp).all()


def test_a_tiff_of_sixteen_bits_of_colour() -> None:
    decoded = decode(photographs.tiff_16_bit_rgb())
    assert (decoded.bits, np.unique(decoded.pixels).tolist()) == (16, [1, 30000, 65535])


def test_sixteen_bits_to_eight_are_rounded() -> None:
    levels = np.arange(65536, dtype=np.uint16)
    assert (to_8_bits(levels) == np.rint(levels / 257)).all()


def test_a_damaged_photo_is_given_only_when_asked_for() -> None:
    data = jpeg(1, 200, 200)
    half = data[: len(data) // 2]
    with pytest.raises(DamagedPhotoError) as error:
        decode(half)
    assert 0.1 < error.value.whole < 0.9
    again = pickle.loads(pickle.dumps(error.value))
    assert (again.whole, again.code, str(again)) == (error.value.whole, "damaged", str(error.value))
    decoded = decode(half, accept_damaged=True)
    rows = int(decoded.whole * 200)
    assert decoded.warnings == [f"damaged: {decoded.whole:.0%} of its rows are whole, the rest is missing or wrong"]
    assert (decoded.pixels[:rows] == decode(data).pixels[:rows]).all()


def test_a_photo_without_its_last_bytes_is_whole() -> None:
    decoded = decode(jpeg(1, 200, 200)[:-2])
    assert (decoded.whole, decoded.warnings) == (1.0, ["end-missing"])
    assert (decoded.pixels == decode(jpeg(1, 200, 200)).pixels).all()


def test_flipped_bits_within_the_picture_are_damage() -> None:
    """Decoders carry on, mostly without a word, with half a picture of the wrong colours."""
    good = encoded(Image.effect_noise((400, 400), 60), quality=90)
    for seed in range(12):
        data = bytearray(good)
        data[len(data) // 2 : len(data) // 2 + 60] = random.Random(seed).randbytes(60)
        with pytest.raises(DamagedPhotoError):
            decode(bytes(data))


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1}, {"restart_marker_blocks": 4}]
)
def test_whole_jpegs_are_not_called_damaged(options: dict[str, Any]) -> None:
    for seed, quality in enumerate((30, 75, 95, 100)):
        noise = Image.effect_noise((160 + 7 * seed, 90 + seed), 20 * seed).convert("RGB" if seed % 2 else "L")
        data = encoded(noise, quality=quality, **options)
        for padded in (data, data + bytes(1000), data[:-2] + b"\xff" * 9 + data[-2:], data + data):
            assert decode(padded).warnings == []


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_rows_that_are_missing_at_the_end_are_missed(subsampling: int) -> None:
    data = encoded(Image.effect_noise((96, 96), 60).convert("RGB"), quality=90, subsampling=subsampling)
    for cut in (20, 200, len(data) // 3):
        with pytest.raises(DamagedPhotoError) as error:
            decode(data[: -cut - 2] + data[-2:])
        assert error.value.whole is not None and error.value.whole < 1


def _profile_with_red_and_blue_swapped() -> bytes:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"tmpX").replace(b"bXYZ", b"rXYZ").replace(b"tmpX", b"bXYZ")


def test_colour_profiles_are_applied() -> None:
    red = Image.new("RGB", (32, 32), (255, 0, 0))
    decoded = decode(encoded(red, "PNG", icc_profile=_profile_with_red_and_blue_swapped()))
    assert (decoded.pixels[0, 0] > 200).tolist() == [False, False, True]
    assert decoded.warnings == []


@pytest.mark.parametrize("profile", [b"junk", bytes(200)])
def test_a_broken_colour_profile_is_a_warning(profile: bytes) -> None:
    decoded = decode(encoded(picture(32, 32), "PNG", icc_profile=profile))
    assert decoded.warnings == ["colour-profile-ignored"]
    assert distance(decoded, picture(32, 32)) == 0


def test_of_many_pages_the_first_is_taken() -> None:
    data = encoded(picture(32, 32), "TIFF", save_all=True, append_images=[picture(64, 64, 1)])
    decoded = decode(data)
    assert (decoded.height, decoded.warnings) == (32, ["first-page-only"])


def test_damaged_exif_does_not_cost_the_photo() -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\x03" * 3
    decoded = decode(encoded(picture(), "JPEG", exif=exif))
    assert (decoded.height, decoded.width) == (40, 56)


def seeds() -> dict[str, bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    rgba = with_alpha(picture(32, 32))
    return {
        "jpeg": encoded(picture(), "JPEG", exif=exif, icc_profile=profile),
        "png": encoded(rgba, "PNG", icc_profile=profile),
        "png-palette": encoded(picture().quantize(16), "PNG", transparency=0),
        "tiff": encoded(rgba, "TIFF", compression="tiff_lzw", exif=exif),
        "tiff-plain": encoded(picture(), "TIFF"),
        "tiff-16": encoded(Image.fromarray(np.arange(1024, dtype=np.uint16).reshape(32, 32)), "TIFF"),
        "webp": encoded(rgba, "WEBP", exif=exif),
        "gif": encoded(picture(), "GIF", save_all=True, append_images=[picture(seed=1)]),
        "bmp": encoded(picture(), "BMP"),
        "jpeg2000": encoded(picture(), "JPEG2000"),
    }


@pytest.mark.parametrize("kind", seeds())
def test_damage_never_raises_anything_but_a_photo_error(kind: str) -> None:
    """Random flips, mostly in the head where the structure is; cuts; and doubled or missing stretches."""
    good, rng = seeds()[kind], random.Random(kind)
    raised = 0
    for _ in range(120):
        data = bytearray(good)
        for _ in range(rng.choice([1, 1, 2, 5, 20])):
            data[min(len(data) - 1, int(rng.random() ** 3 * len(data)))] = rng.choice([0, 255, 1, rng.randrange(256)])
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        if rng.random() < 0.2 and data:
            at = rng.randrange(len(data))
            data[at : at + rng.randrange(40)] = data[: rng.randrange(40)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own remarks about damage
            try:
                decoded = decode(bytes(data))
            except PhotoError as error:
                assert error.code in CODES
                raised += 1
            else:
                assert decoded.pixels.ndim == 3 and decoded.pixels.dtype == np.uint16
    assert raised > 0


@pytest.mark.parametrize("cut", [1, 2, 3, 10, 100, 400])
def test_any_cut_is_a_photo_error(cut: int) -> None:
    with pytest.raises(PhotoError):
        decode(jpeg()[:cut])


def test_noise_is_not_an_image() -> None:
    with pytest.raises(PhotoError) as error:
        decode(random.Random(0).randbytes(5000))
    assert error.value.code == "not-an-image"


def test_decoding_leaves_the_bytes_alone() -> None:
    data = jpeg()
    assert Image.open(io.BytesIO(data)).size == (56, 40)
    assert (decode(data).pixels == decode(data).pixels).all()
