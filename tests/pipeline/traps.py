"""Photo files as archives have them: formats, depths, layouts, modes, damage. Each with what must become of it.

`TRAPS` names a maker of bytes and what is expected: an error code, or bits, whether it is grey, whether it has
alpha, and how far its pixels may be from the truth (mean, in 8-bit levels; None: only the route is checked).
`python -m tests.pipeline.traps` prints what becomes of each.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import pillow_heif
import tifffile
from PIL import Image, ImageCms

from pipeline.photos.decode import LIBVIPS, PILLOW, decode, decoder_of
from pipeline.photos.header import read_header
from supir_core.errors import PhotoError
from tests.pipeline.photographs import png_by_hand, raw_photo

HEIGHT, WIDTH = 192, 256


class Expected(NamedTuple):
    """What must become of a file."""

    code: str = ""  # of its failure
    bits: int = 8
    grey: bool = False
    alpha: bool = False
    distance: float | None = 0.0  # mean, in 8-bit levels
    warnings: tuple[str, ...] = ()  # up to the colon


class Trap(NamedTuple):
    """A file, and what must become of it."""

    make: Callable[[], bytes]
    expected: Expected


@cache
def deep() -> np.ndarray:
    """(H, W, 3) uint16: smooth, with some noise in the lower bits."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    smooth = np.stack([x * 200, y * 260, (x + y) * 120], axis=-1) + 5000
    return (smooth + np.random.default_rng(0).integers(0, 200, smooth.shape)).astype(np.uint16)


def shallow() -> np.ndarray:
    return (deep() >> 8).astype(np.uint8)


def deep_grey() -> np.ndarray:
    return np.ascontiguousarray(deep()[..., 0])


def grey() -> np.ndarray:
    return (deep_grey() >> 8).astype(np.uint8)


def alpha() -> np.ndarray:
    out = np.full((HEIGHT, WIDTH), 65535, np.uint16)
    out[:60] = 0
    return out


def tif(values: np.ndarray, **options: Any) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, values, **options)
    return out.getvalue()


def pil(values: np.ndarray | Image.Image, format_name: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image = values if isinstance(values, Image.Image) else Image.fromarray(values)
    image.save(out, format_name, **options)
    return out.getvalue()


def rgb(mode: str = "RGB") -> Image.Image:
    return Image.fromarray(shallow()).convert(mode)


def with_alpha(values: np.ndarray) -> np.ndarray:
    plane = alpha() if values.dtype == np.uint16 else (alpha() >> 8).astype(np.uint8)
    return np.dstack([values, plane])


def ten_bits_heic() -> bytes:
    out = io.BytesIO()
    pillow_heif.from_bytes(mode="RGB;16", size=(WIDTH, HEIGHT), data=deep().tobytes()).save(out, quality=95)
    return out.getvalue()


def heic() -> bytes:
    pillow_heif.register_heif_opener()
    return pil(shallow(), "HEIF", quality=95)


def cut(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


def flipped(data: bytes, count: int = 80) -> bytes:
    middle, noise = len(data) // 2, np.random.default_rng(5).bytes(count)
    return data[:middle] + noise + data[middle + count :]


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return pil(Image.fromarray(np.ascontiguousarray(np.rot90(shallow(), 1))), "JPEG", quality=98, exif=exif)


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def jpg(**options: Any) -> bytes:
    return pil(shallow(), "JPEG", **{"quality": 95, "subsampling": 0, **options})


def with_junk(junk: bytes, before: bytes = b"\xff\xdb") -> bytes:
    """A JPEG with bytes between the segments of its header, as careless editors of metadata leave them."""
    return jpg().replace(before, junk + before, 1)


def without_picture() -> bytes:
    data = jpg()
    return data[: data.index(b"\xff\xda") + 14]


def lossless() -> bytes:
    return bytes(imagecodecs.ljpeg_encode(deep_grey(), bitspersample=16))


DEEP, GREY16, ALPHA16 = Expected(bits=16), Expected(bits=16, grey=True), Expected(bits=16, alpha=True)
GREY, ALPHA, CLOSE = Expected(grey=True), Expected(alpha=True), Expected(distance=2.0)
COMPLAINED = Expected(distance=2.0, warnings=("decoder-complained",))


def _fails(code: str) -> Expected:
    return Expected(code=code)


TRAPS: dict[str, Trap] = {
    "rgb16.tif": Trap(lambda: tif(deep(), photometric="rgb"), DEEP),
    "rgb16-lzw.tif": Trap(lambda: tif(deep(), photometric="rgb", compression="lzw", predictor=True), DEEP),
    "rgb16-deflate-tiled.tif": Trap(lambda: tif(deep(), photometric="rgb", compression="zlib", tile=(64, 64)), DEEP),
    "rgb16-planar.tif": Trap(
        lambda: tif(deep().transpose(2, 0, 1).copy(), photometric="rgb", planarconfig="separate"), DEEP
    ),
    "rgb16-planar-lzw.tif": Trap(
        lambda: tif(deep().transpose(2, 0, 1).copy(), photometric="rgb", planarconfig="separate", compression="lzw"),
        DEEP,
    ),
    "rgb8-planar-tiled.tif": Trap(
        lambda: tif(shallow().transpose(2, 0, 1).copy(), photometric="rgb", planarconfig="separate", tile=(64, 64)),
        Expected(),
    ),
    "rgb16-planar-tiled.tif": Trap(
        lambda: tif(deep().transpose(2, 0, 1).copy(), photometric="rgb", planarconfig="separate", tile=(64, 64)),
        _fails("unsupported-depth"),
    ),
    "rgb16-big-endian.tif": Trap(lambda: tif(deep(), photometric="rgb", byteorder=">"), DEEP),
    "rgb16-bigtiff.tif": Trap(lambda: tif(deep(), photometric="rgb", bigtiff=True), DEEP),
    "rgba16.tif": Trap(lambda: tif(with_alpha(deep()), photometric="rgb", extrasamples=["unassalpha"]), ALPHA16),
    "grey16.tif": Trap(lambda: tif(deep_grey(), photometric="minisblack"), GREY16),
    "grey16-white-is-zero.tif": Trap(lambda: tif(65535 - deep_grey(), photometric="miniswhite"), GREY16),
    "grey8-white-is-zero.tif": Trap(lambda: tif(255 - grey(), photometric="miniswhite"), GREY),
    "rgb16-zstd.tif": Trap(lambda: tif(deep(), photometric="rgb", compression="zstd"), _fails("unsupported-depth")),
    "rgb8-zstd.tif": Trap(lambda: tif(shallow(), photometric="rgb", compression="zstd"), Expected()),
    "rgb8-lzma.tif": Trap(lambda: tif(shallow(), photometric="rgb", compression="lzma"), Expected()),
    "rgb8-webp.tif": Trap(lambda: tif(shallow(), photometric="rgb", compression="webp"), CLOSE),
    "rgb8-jxl.tif": Trap(lambda: tif(shallow(), photometric="rgb", compression="jpegxl"), _fails("unsupported-format")),
    "rgb8-jpeg.tif": Trap(lambda: pil(shallow(), "TIFF", compression="jpeg", quality=95), CLOSE),
    "rgb8-tiled.tif": Trap(lambda: tif(shallow(), photometric="rgb", tile=(64, 64)), Expected()),
    "rgb8-packbits.tif": Trap(lambda: pil(shallow(), "TIFF", compression="packbits"), Expected()),
    "rgb-float.tif": Trap(
        lambda: tif((deep() / 65535).astype("f4"), photometric="rgb"),
        Expected(bits=32, distance=None, warnings=("float-taken-as-linear",)),
    ),
    "grey-float.tif": Trap(lambda: tif((deep_grey() / 65535).astype("f4")), Expected(bits=32, grey=True)),
    "grey-float-beyond.tif": Trap(lambda: tif(deep_grey().astype("f4")), _fails("unsupported-depth")),
    "grey-u32.tif": Trap(lambda: tif(deep_grey().astype("u4") * 65537), _fails("unsupported-depth")),
    "grey-i16.tif": Trap(lambda: tif((deep_grey() // 3).astype("i2")), _fails("unsupported-depth")),
    "five-channels.tif": Trap(
        lambda: tif(np.dstack([shallow(), shallow()[..., :2]]), photometric="minisblack", planarconfig="contig"),
        _fails("unsupported-format"),
    ),
    "lab.tif": Trap(lambda: pil(rgb("LAB"), "TIFF"), CLOSE),
    "cmyk8.tif": Trap(lambda: pil(rgb("CMYK"), "TIFF"), CLOSE),
    "cmyk16.tif": Trap(
        lambda: tif(np.asarray(rgb("CMYK")).astype(np.uint16) * 257, photometric="separated"),
        Expected(bits=16, distance=2.0),
    ),
    "bilevel.tif": Trap(
        lambda: tif(grey() > 128, photometric="minisblack"), Expected(bits=1, grey=True, distance=None)
    ),
    "bilevel-g4.tif": Trap(
        lambda: pil(Image.fromarray(grey()).convert("1"), "TIFF", compression="group4"),
        Expected(bits=1, grey=True, distance=None),
    ),
    "pages.tif": Trap(
        lambda: pil(rgb(), "TIFF", save_all=True, append_images=[rgb(), rgb()]),
        Expected(warnings=("first-page-only",)),
    ),
    "camera.tif": Trap(raw_photo, _fails("raw-photo")),
    "rgb16.png": Trap(lambda: bytes(imagecodecs.png_encode(deep())), DEEP),
    "rgba16.png": Trap(lambda: bytes(imagecodecs.png_encode(with_alpha(deep()))), ALPHA16),
    "grey16.png": Trap(lambda: bytes(imagecodecs.png_encode(deep_grey())), GREY16),
    "rgb8.png": Trap(lambda: pil(shallow(), "PNG"), Expected()),
    "rgba8.png": Trap(lambda: pil(with_alpha(shallow()), "PNG"), ALPHA),
    "grey-alpha8.png": Trap(lambda: pil(with_alpha(grey()), "PNG"), Expected(grey=True, alpha=True)),
    "palette.png": Trap(lambda: pil(rgb().quantize(256), "PNG"), Expected(distance=8.0)),
    "palette-transparent.png": Trap(
        lambda: pil(rgb().quantize(256), "PNG", transparency=3), Expected(alpha=True, distance=8.0)
    ),
    "bilevel.png": Trap(
        lambda: pil(Image.fromarray(grey()).convert("1"), "PNG"), Expected(bits=1, grey=True, distance=None)
    ),
    "grey-in-rgb.png": Trap(lambda: pil(np.dstack([grey()] * 3), "PNG"), GREY),
    "srgb-profile.png": Trap(lambda: pil(shallow(), "PNG", icc_profile=srgb()), Expected(distance=0.2)),
    "junk-profile.png": Trap(
        lambda: pil(shallow(), "PNG", icc_profile=b"junk"), Expected(warnings=("colour-profile-ignored",))
    ),
    "rgb8.jpg": Trap(jpg, CLOSE),
    "progressive.jpg": Trap(lambda: jpg(progressive=True), CLOSE),
    "restarts.jpg": Trap(lambda: jpg(restart_marker_blocks=3), CLOSE),
    "subsampled.jpg": Trap(lambda: jpg(subsampling=2), CLOSE),
    "grey8.jpg": Trap(lambda: pil(grey(), "JPEG", quality=95), Expected(grey=True, distance=2.0)),
    "cmyk-adobe.jpg": Trap(lambda: pil(rgb("CMYK"), "JPEG", quality=95), CLOSE),
    "turned.jpg": Trap(lambda: turned(6), CLOSE),
    "twelve-bits.jpg": Trap(
        lambda: bytes(imagecodecs.jpeg8_encode(deep() >> 4, bitspersample=12)), _fails("unsupported-depth")
    ),
    "lossless.jpg": Trap(lossless, _fails("unsupported-format")),
    "two-pictures.jpg": Trap(
        lambda: pil(rgb(), "MPO", quality=95, subsampling=0, save_all=True, append_images=[rgb()]),
        Expected(distance=2.0, warnings=("first-page-only",)),
    ),
    "without-end.jpg": Trap(lambda: jpg()[:-2], Expected(distance=2.0, warnings=("end-missing",))),
    "zeros-behind.jpg": Trap(lambda: jpg() + bytes(5000), CLOSE),
    "junk-in-header.jpg": Trap(lambda: with_junk(b"junk!"), COMPLAINED),
    "stray-ff00.jpg": Trap(lambda: with_junk(b"\xff\x00\x00\x00\xff"), COMPLAINED),
    "short-exif.jpg": Trap(lambda: with_junk(b"\xff\xe1\x00\x10Exif\x00\x00MM\x00*" + bytes(20)), COMPLAINED),
    "short-adobe.jpg": Trap(lambda: with_junk(b"\xff\xee\x00\x0dAdobe\x00d\x00\x00\x00\x00\x01"), COMPLAINED),
    "junk-and-half.jpg": Trap(lambda: cut(with_junk(b"junk!"), 0.5), _fails("damaged")),
    "junk-and-flipped.jpg": Trap(lambda: flipped(with_junk(b"junk!")), _fails("damaged")),
    "without-picture.jpg": Trap(without_picture, _fails("damaged")),
    "half.jpg": Trap(lambda: cut(jpg(), 0.5), _fails("damaged")),
    "half-progressive.jpg": Trap(lambda: cut(jpg(progressive=True), 0.5), _fails("damaged")),
    "flipped.jpg": Trap(lambda: flipped(jpg()), _fails("damaged")),
    "half.png": Trap(lambda: cut(pil(shallow(), "PNG"), 0.5), _fails("damaged")),
    "flipped.png": Trap(lambda: flipped(pil(shallow(), "PNG")), _fails("damaged")),
    "half.tif": Trap(lambda: cut(tif(deep(), photometric="rgb"), 0.5), _fails("damaged")),
    "half.webp": Trap(lambda: cut(pil(shallow(), "WEBP"), 0.5), _fails("corrupt")),
    "rgb8.webp": Trap(lambda: pil(shallow(), "WEBP", lossless=True), Expected()),
    "rgba8.webp": Trap(lambda: pil(with_alpha(shallow()), "WEBP", lossless=True, exact=True), ALPHA),
    "rgb8.bmp": Trap(lambda: pil(shallow(), "BMP"), Expected()),
    "still.gif": Trap(lambda: pil(rgb().quantize(256), "GIF"), Expected(distance=8.0)),
    "moving.gif": Trap(
        lambda: pil(rgb().quantize(256), "GIF", save_all=True, append_images=[rgb("L")]),
        Expected(alpha=True, distance=8.0, warnings=("first-page-only",)),
    ),
    "rgb8.avif": Trap(lambda: pil(shallow(), "AVIF", quality=90), Expected(distance=3.0)),
    "ten-bits.avif": Trap(
        lambda: bytes(imagecodecs.avif_encode(deep() >> 6, bitspersample=10)), Expected(bits=10, distance=1.0)
    ),
    "rgb8.heic": Trap(heic, Expected(distance=3.0)),
    "ten-bits.heic": Trap(ten_bits_heic, Expected(bits=10, distance=3.0)),
    "rgb8.jp2": Trap(lambda: bytes(imagecodecs.jpeg2k_encode(shallow(), level=0, codecformat="jp2")), Expected()),
    "rgb16.jp2": Trap(
        lambda: bytes(imagecodecs.jpeg2k_encode(deep(), level=0, codecformat="jp2")), _fails("unsupported-depth")
    ),
    "grey16.jp2": Trap(lambda: bytes(imagecodecs.jpeg2k_encode(deep_grey(), level=0, codecformat="jp2")), GREY16),
    "rgb8.jxl": Trap(lambda: bytes(imagecodecs.jpegxl_encode(shallow(), lossless=True)), _fails("unsupported-format")),
    "empty.jpg": Trap(lambda: b"", _fails("empty")),
    "page.jpg": Trap(lambda: b"<html>404 Not Found</html>", _fails("not-an-image")),
    "really-a-png.jpg": Trap(lambda: pil(shallow(), "PNG"), Expected()),
    "bomb.png": Trap(lambda: png_by_hand(60000, 60000, 8, 2, bytes(4)), _fails("too-large")),
    "endless.png": Trap(lambda: png_by_hand(16, 2**28, 8, 2, bytes(4)), _fails("too-large")),
    "ribbon.png": Trap(lambda: png_by_hand(400_000, 16, 8, 0, bytes(400_001 * 16)), _fails("too-large")),
    "long.png": Trap(lambda: png_by_hand(150_000, 16, 8, 0, bytes(150_001 * 16)), Expected(grey=True, distance=None)),
    "liar.png": Trap(lambda: png_by_hand(9000, 9000, 8, 2, bytes(4)), _fails("damaged")),
    "dot.png": Trap(lambda: pil(Image.new("RGB", (1, 1)), "PNG"), _fails("too-small")),
}
"""By file name."""

REFUSED = "header"  # the route of files that nobody decodes
_REFUSED_BY_HEADER = (
    "camera.tif", "twelve-bits.jpg", "lossless.jpg", "half.webp", "rgb8.jxl", "empty.jpg", "page.jpg", "bomb.png",
    "endless.png", "ribbon.png", "dot.png",
)  # fmt: skip
_BY_PILLOW = (
    "rgb8-planar-tiled.tif", "rgb16-planar-tiled.tif", "rgb8-zstd.tif", "rgb16-zstd.tif", "rgb8-lzma.tif",
    "rgb8-jxl.tif", "lab.tif", "rgb8.bmp", "rgb8.heic", "ten-bits.heic", "rgb8.jp2", "rgb16.jp2", "grey16.jp2",
)  # fmt: skip


def expected_route(name: str) -> str:
    """Who must decode a file."""
    return REFUSED if name in _REFUSED_BY_HEADER else PILLOW if name in _BY_PILLOW else LIBVIPS


def route(data: bytes) -> str:
    """Who decodes a file."""
    try:
        return decoder_of(data, read_header(io.BytesIO(data)))
    except PhotoError:
        return REFUSED


def main() -> None:
    """Print the table of all files: name, route, status, what is to be said of it, depth."""
    print(f"{'file':28} {'route':8} {'status':28} {'bits':>4}  warnings")
    for name, (make, _) in TRAPS.items():
        data = make()
        try:
            decoded = decode(data)
        except PhotoError as error:
            print(f"{name:28} {route(data):8} {'failed: ' + error.code:28}")
            continue
        status = "skipped: bilevel" if decoded.header.bilevel else "decoded"
        kind = " grey" * decoded.grey + " alpha" * (decoded.alpha is not None)
        print(f"{name:28} {route(data):8} {status + kind:28} {decoded.bits:4}  {', '.join(decoded.warnings)}")


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of decoders, about damage
        main()
