"""Images of results: rows of equally large tiles, each with a caption below."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

Tile = tuple[str, Image.Image]  # caption, image

FONT_SIZE = 15
CAPTION_HEIGHT = 42  # pixels: two lines


def to_picture(image: Tensor) -> Image.Image:
    """Return an 8-bit RGB image of (3, H, W) or (1, 3, H, W) in [0, 1], which is clamped here."""
    image = image.detach().reshape(3, *image.shape[-2:]).clamp(0, 1)
    pixels = (image.permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels))


def contact_sheet(
    rows: list[list[Tile]], side: int = 300, gap: int = 8, aspect: float | None = None
) -> Image.Image:
    """Return one image with every tile scaled to the same width by nearest neighbours, captions below.

    Args:
        rows: rows of (caption, image); a caption may have two lines.
        side: width of a tile in pixels.
        gap: pixels between tiles.
        aspect: height / width of every tile; None takes that of the first tile of each row.
    """
    font = ImageFont.load_default(size=FONT_SIZE)
    heights = [round(side * (aspect or row[0][1].height / row[0][1].width)) for row in rows]
    width = max(len(row) for row in rows) * (side + gap) + gap
    sheet = Image.new("RGB", (width, sum(heights) + len(rows) * (CAPTION_HEIGHT + gap) + gap), "white")
    draw = ImageDraw.Draw(sheet)
    y = gap
    for row, height in zip(rows, heights):
        for column, (text, picture) in enumerate(row):
            x = gap + column * (side + gap)
            sheet.paste(picture.convert("RGB").resize((side, height), Image.Resampling.NEAREST), (x, y))
            draw.multiline_text((x, y + height + 4), text, fill="black", font=font, spacing=3)
        y += height + CAPTION_HEIGHT + gap
    return sheet


def boxed_with_crops(
    whole: Image.Image, box: tuple[int, int, int, int], title: str, crops: list[Tile], side: int = 220
) -> Image.Image:
    """Return the whole image with a red box on the left and crops of the box in two rows on the right.

    Args:
        whole: the image.
        box: (top, left, height, width) in pixels of ``whole``.
        title: text below the whole image.
        crops: (caption, image); all are shown equally large by nearest neighbours.
        side: width of a crop in pixels.
    """
    # The crops, in two rows
    columns = -(-len(crops) // 2)
    rows = [crops[i : i + columns] for i in range(0, len(crops), columns)]
    sheet = contact_sheet(rows, side, aspect=box[2] / box[3])
    # The whole image, as high as the crops but at most twice as wide as high
    height = sheet.height - 60
    factor = min(height / whole.height, 2.0 * height / whole.width)
    size = (max(1, round(whole.width * factor)), max(1, round(whole.height * factor)))
    shown = whole.resize(size, Image.Resampling.LANCZOS)
    # The box in it
    draw = ImageDraw.Draw(shown)
    top, left, h, w = (n * factor for n in box)
    draw.rectangle([left, top, left + w - 1, top + h - 1], outline="red", width=max(2, shown.width // 150))
    # Both on one page
    page = Image.new("RGB", (shown.width + sheet.width + 8, sheet.height), "white")
    page.paste(shown, (8, 8))
    font = ImageFont.load_default(size=FONT_SIZE)
    ImageDraw.Draw(page).text((8, shown.height + 14), title, fill="black", font=font)
    page.paste(sheet, (shown.width + 8, 0))
    return page
