"""Pictures of results: rows of equally large tiles with a caption under each."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

Tile = tuple[str, Image.Image]


def to_picture(image: Tensor) -> Image.Image:
    """(3, H, W) or (1, 3, H, W) in [0, 1], clamped here -> an 8-bit RGB picture."""
    image = image.detach().reshape(3, *image.shape[-2:]).clamp(0, 1)
    return Image.fromarray(
        np.ascontiguousarray((image.permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8))
    )


def contact_sheet(
    rows: list[list[Tile]], side: int = 300, gap: int = 8, aspect: float | None = None
) -> Image.Image:
    """One picture with every tile shown ``side`` pixels wide, pixels kept visible, captions below.

    Args:
        rows: rows of (caption, picture); a caption may have two lines.
        side: width of a tile.
        aspect: height / width of every tile; None takes that of the first one of each row.
    """
    font = ImageFont.load_default(size=15)
    caption = 42
    heights = [round(side * (aspect or row[0][1].height / row[0][1].width)) for row in rows]
    width = max(len(row) for row in rows) * (side + gap) + gap
    sheet = Image.new("RGB", (width, sum(heights) + len(rows) * (caption + gap) + gap), "white")
    draw = ImageDraw.Draw(sheet)
    y = gap
    for row, height in zip(rows, heights):
        for column, (text, picture) in enumerate(row):
            x = gap + column * (side + gap)
            sheet.paste(picture.convert("RGB").resize((side, height), Image.NEAREST), (x, y))
            draw.multiline_text((x, y + height + 4), text, fill="black", font=font, spacing=3)
        y += height + caption + gap
    return sheet


def boxed_with_crops(
    whole: Image.Image, box: tuple[int, int, int, int], title: str, crops: list[Tile], side: int = 220
) -> Image.Image:
    """The whole picture with a red box on the left, the crops of the box in two rows or more on the right, captions below.

    Args:
        box: (top, left, height, width) in pixels of ``whole``.
        crops: (caption, picture); all are shown equally large, pixels kept visible.
    """
    columns = -(-len(crops) // 2)
    rows = [crops[i : i + columns] for i in range(0, len(crops), columns)]
    sheet = contact_sheet(rows, side, aspect=box[2] / box[3])
    height = sheet.height - 60
    factor = min(height / whole.height, 2.0 * height / whole.width)
    shown = whole.resize(
        (max(1, round(whole.width * factor)), max(1, round(whole.height * factor))), Image.LANCZOS
    )
    draw = ImageDraw.Draw(shown)
    top, left, h, w = (n * factor for n in box)
    draw.rectangle([left, top, left + w - 1, top + h - 1], outline="red", width=max(2, shown.width // 150))
    page = Image.new("RGB", (shown.width + sheet.width + 8, sheet.height), "white")
    page.paste(shown, (8, 8))
    ImageDraw.Draw(page).text(
        (8, shown.height + 14), title, fill="black", font=ImageFont.load_default(size=15)
    )
    page.paste(sheet, (shown.width + 8, 0))
    return page
