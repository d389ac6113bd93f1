"""A contact sheet: a photo and its looks side by side, each labelled, and below each a part of it in full size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

CELL_PX = 480
DETAIL_PX = 320  # the height of the parts in full size
GAP_PX = 12
TEXT_PX = 18
PAPER, INK = (32, 32, 32), (235, 235, 235)
COLUMNS = 4


class Cell(NamedTuple):
    """One picture of a sheet."""

    label: Sequence[str]  # lines
    picture: Image.Image  # RGB


def contact_sheet(cells: Sequence[Cell]) -> Image.Image:
    """The cells in rows of four.

    Every picture is shown whole, and below that its centre in full size, at the size of the largest of them.
    """
    full = max((cell.picture.size for cell in cells), key=lambda size: size[0] * size[1])
    lines = max(len(cell.label) for cell in cells)
    thumb = _fitted(full, (CELL_PX, CELL_PX))
    tall = lines * (TEXT_PX + 4) + thumb[1] + DETAIL_PX + 3 * GAP_PX
    columns = min(COLUMNS, len(cells))
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (columns * (CELL_PX + GAP_PX) + GAP_PX, rows * tall + GAP_PX), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT_PX)
    for number, cell in enumerate(cells):
        left = GAP_PX + number % columns * (CELL_PX + GAP_PX)
        top = GAP_PX + number // columns * tall
        for line in cell.label:
            draw.text((left, top), _short(line, font), INK, font)
            top += TEXT_PX + 4
        sheet.paste(cell.picture.resize(thumb, Image.Resampling.LANCZOS), (left, top))
        sheet.paste(_detail(cell.picture, full), (left, top + thumb[1] + GAP_PX))
        top += thumb[1]
    return sheet


def _fitted(size: tuple[int, int], into: tuple[int, int]) -> tuple[int, int]:
    scale = min(into[0] / size[0], into[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _detail(picture: Image.Image, full: tuple[int, int]) -> Image.Image:
    """The centre of a picture at the full size, made without the rest of it: pictures are large."""
    width, height = min(CELL_PX, full[0]), min(DETAIL_PX, full[1])
    across, down = picture.width / full[0], picture.height / full[1]
    left, top = (full[0] - width) / 2 * across, (full[1] - height) / 2 * down
    box = (left, top, left + width * across, top + height * down)
    return picture.resize((width, height), Image.Resampling.BICUBIC, box=box)


def _short(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """As much of a line as a cell is wide."""
    while len(line) > 1 and font.getlength(line) > CELL_PX:
        line = line[:-2] + "…"
    return line
