"""Pictures of results: rows of equally large tiles with a caption under each."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

Tile = tuple[str, Image.Image]


def to_picture(image: Tensor) -> Image.Image:
    """(3, H, W) or (1, 3, H, W) in [0, 1], clamped here -> an 8-bit RGB picture."""
    image = image.detach().reshape(3, *image.shape[-2:]).clamp(0, 1)
    return Image.fromarray(np.ascontiguousarray((image.permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8)))


def contact_sheet(rows: list[list[Tile]], side: int = 300, gap: int = 8) -> Image.Image:
    """One picture with every tile shown ``side`` pixels wide, pixels kept visible, captions below.

    Args:
        rows: rows of (caption, picture); a caption may have two lines.
        side: width of a tile; all tiles of a row get the height of its first.
    """
    font = ImageFont.load_default(size=15)
    caption = 42
    heights = [round(side * row[0][1].height / row[0][1].width) for row in rows]
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
