"""Draw docs/coordinates.png: two grids over one square, a query with its four codes, one axis with numbers.

  python scripts/draw_coordinates.py            writes docs/coordinates.png

Every position, weight and number in it comes from liif_plugin.coords: it cannot differ from the code.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from liif_plugin.coords import cell_of, centre, corners

# A picture of 4 x 4 pixels, asked for at 12 x 12; the target pixel that is asked for: row, column
LR, SCALE, QUERY = 4, 3, (5, 6)
HR = LR * SCALE
WIDTH, HEIGHT, FINE = 1800, 1480, 2  # drawn twice as large and shrunk: smooth edges
INK, GRAY, PALE, RED, YELLOW = "#1b1f24", "#6b7480", "#c9d0d8", "#c4320a", "#ffe58a"
LETTERS = "ABCD"
CODES = ("#0072b2", "#d55e00", "#009e73", "#8e44ad")  # top left, top right, bottom left, bottom right
FILLS = ("#cfe5f3", "#fadccb", "#cdeee3", "#e6d6ee")


class Canvas:
    """Pillow's ImageDraw in units of the finished picture."""

    def __init__(self):
        self.image = Image.new("RGB", (WIDTH * FINE, HEIGHT * FINE), "white")
        self.draw = ImageDraw.Draw(self.image)

    def box(self, left, top, right, bottom, fill=None, line=None, width=2):
        self.draw.rectangle([n * FINE for n in (left, top, right, bottom)], fill, line, width * FINE)

    def line(self, *points, fill=INK, width=2):
        self.draw.line([(x * FINE, y * FINE) for x, y in points], fill, width * FINE, joint="curve")

    def dot(self, x, y, radius, fill, line="white", width=3):
        self.draw.ellipse(
            [(x - radius) * FINE, (y - radius) * FINE, (x + radius) * FINE, (y + radius) * FINE],
            fill,
            line,
            width * FINE,
        )

    def text(self, x, y, words, size=28, fill=INK, anchor="mm", back=None):
        font = ImageFont.load_default(size * FINE)
        if back:
            left, top, right, bottom = self.draw.textbbox(
                (x * FINE, y * FINE), words, font=font, anchor=anchor
            )
            self.draw.rectangle([left - 6 * FINE, top - 3 * FINE, right + 6 * FINE, bottom + 3 * FINE], back)
        self.draw.text((x * FINE, y * FINE), words, fill, font, anchor)

    def dashes(self, *points, fill=INK, width=3, dash=9):
        for (x0, y0), (x1, y1) in zip(points, points[1:]):
            steps = max(1, round(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5 / dash))
            for i in range(0, steps, 2):
                a, b = i / steps, min(1, (i + 1) / steps)
                self.line(
                    (x0 + a * (x1 - x0), y0 + a * (y1 - y0)),
                    (x0 + b * (x1 - x0), y0 + b * (y1 - y0)),
                    fill=fill,
                    width=width,
                )

    def code(self, x, y, number, radius):
        self.dot(x, y, radius, CODES[number])
        self.text(x, y - 1, LETTERS[number], round(radius * 1.25), "white")

    def arrow(self, start, end, fill=INK, width=3, head=13):
        dx, dy = end[0] - start[0], end[1] - start[1]
        length = (dx * dx + dy * dy) ** 0.5
        dx, dy = dx / length, dy / length
        base = end[0] - head * dx, end[1] - head * dy
        self.line(start, base, fill=fill, width=width)
        sides = [(base[0] - sign * head * 0.55 * dy, base[1] + sign * head * 0.55 * dx) for sign in (1, -1)]
        self.draw.polygon([(x * FINE, y * FINE) for x, y in (end, *sides)], fill)


def number(value: float) -> str:
    return f"{value:+.2f}"


def query() -> tuple[float, float]:
    return centre(QUERY[0], HR), centre(QUERY[1], HR)


def answer() -> tuple[list[tuple[int, int]], list[tuple[float, float]], list[Fraction]]:
    """Of the four codes: (row, column), relative coordinate, weight."""
    index, rel, weight = corners(torch.tensor([[query()]]), (LR, LR))
    cells = [divmod(int(i), LR) for i in index[0, :, 0]]
    return (
        cells,
        rel[0, :, 0].tolist(),
        [Fraction(float(w)).limit_denominator(SCALE**2) for w in weight[0, :, 0]],
    )


def draw_grids(c: Canvas, left: float, top: float, side: float) -> list[tuple[float, float]]:
    """Returns where the four codes of the query are drawn."""

    def at(y, x):
        return left + (x + 1) / 2 * side, top + (y + 1) / 2 * side

    c.text(left - 90, top - 148, "1  One square, two grids", 36, anchor="lm")
    c.text(
        left - 90, top - 106, "4 x 4 pixels come in (thick), 12 x 12 are asked for (thin).", 27, GRAY, "lm"
    )
    cells = answer()[0]
    for (row, column), fill in zip(cells, FILLS):
        c.box(
            *at(2 * row / LR - 1, 2 * column / LR - 1),
            *at(2 * (row + 1) / LR - 1, 2 * (column + 1) / LR - 1),
            fill,
        )
    for n, fill, width in ((HR, PALE, 2), (LR, INK, 4)):
        for i in range(n + 1):
            edge = 2 * i / n - 1
            c.line(at(edge, -1), at(edge, 1), fill=fill, width=width)
            c.line(at(-1, edge), at(1, edge), fill=fill, width=width)
    y, x = query()
    half = 1 / HR
    c.box(*at(y - half, x - half), *at(y + half, x + half), YELLOW, INK, 3)
    c.dot(*at(y, x), 6, INK, INK)
    codes = [at(centre(row, LR), centre(column, LR)) for row, column in cells]
    c.dashes(*(codes[i] for i in (0, 1, 3, 2, 0)), fill=GRAY)
    for row in range(LR):
        for column in range(LR):
            if (row, column) not in cells:
                c.dot(*at(centre(row, LR), centre(column, LR)), 9, GRAY)
    for which, place in enumerate(codes):
        c.code(*place, which, 19)
    for value in (-1, 0, 1):
        c.text(at(0, value)[0], top - 22, str(value), 26, GRAY)
        c.text(left - 20, at(value, 0)[1], str(value), 26, GRAY, "rm")
    c.arrow((left + side * 0.80, top - 54), (left + side, top - 54), GRAY)
    c.text(left + side * 0.78, top - 54, "x, second", 27, GRAY, "rm")
    c.arrow((left - 70, top + side * 0.66), (left - 70, top + side), GRAY)
    c.text(left - 70, top + side * 0.58, "y,", 27, GRAY)
    c.text(left - 70, top + side * 0.62, "first", 27, GRAY)
    legend = top + side + 46
    c.dot(left + 12, legend, 10, GRAY)
    c.text(left + 40, legend, "centre of an input pixel; each has one latent code", 26, anchor="lm")
    c.box(left, legend + 34, left + 24, legend + 58, YELLOW, INK, 3)
    c.text(
        left + 40,
        legend + 46,
        f"the target pixel that is asked for: row {QUERY[0]}, column {QUERY[1]}",
        26,
        anchor="lm",
    )
    return codes


def draw_ensemble(
    c: Canvas, left: float, top: float, side: float, seen_at: list[tuple[float, float]]
) -> None:
    cells, rel, weights = answer()
    codes = [(centre(row, LR), centre(column, LR)) for row, column in cells]
    (y0, x0), (y1, x1) = codes[0], codes[3]

    def at(y, x):
        return left + (x - x0) / (x1 - x0) * side, top + (y - y0) / (y1 - y0) * side

    for from_, to in ((1, at(y0, x0)), (3, at(y1, x0))):
        c.dashes(seen_at[from_], to, fill=PALE)
        c.code(*seen_at[from_], from_, 19)
    c.text(left - 60, top - 193, "2  Four codes answer", 36, anchor="lm")
    c.text(left - 60, top - 151, "The weight of each is the area of its colour, DIAGONALLY", 27, GRAY, "lm")
    c.text(left - 60, top - 115, "opposite to it: the nearer a code, the more it weighs.", 27, GRAY, "lm")
    y, x = query()
    # Of the labels in their areas: beside cell and arrow
    places = (
        (0.5, 0.30),
        (0.30, 0.27),
        (0.42, 0.62),
        (0.58, 0.62),
    )
    for (cy, cx), which in zip(codes, (3, 2, 1, 0)):  # the area at a code is its opposite's
        (le, ri), (up, lo) = sorted((at(y, x)[0], at(cy, cx)[0])), sorted((at(y, x)[1], at(cy, cx)[1]))
        c.box(le, up, ri, lo, FILLS[which])
        px, py = places[3 - which]
        c.text(
            le + px * (ri - le), up + py * (lo - up), f"{LETTERS[which]}: {weights[which]}", 38, CODES[which]
        )
    half = 1 / HR
    le, up, ri, lo = *at(y - half, x - half), *at(y + half, x + half)
    c.line(at(y, x0), at(y, x1), fill=GRAY)
    c.line(at(y0, x), at(y1, x), fill=GRAY)
    c.box(le, up, ri, lo, YELLOW, INK, 3)
    nearest = max(range(4), key=lambda i: weights[i])
    c.arrow(at(*codes[nearest]), at(y, x), CODES[nearest], 5, 22)
    c.dot(*at(y, x), 9, INK, INK)
    for which, (cy, cx) in enumerate(codes):
        X, Y = at(cy, cx)
        c.code(X, Y, which, 26)
        beside, away = (34 if which % 2 else -34), (46 if which > 1 else -44)
        c.text(X + beside, Y + away, f"({number(cy)}, {number(cx)})", 26, CODES[which])
    c.text(le + 8, lo + 20, "cell", 27, INK, "lm")
    below = top + side + 92
    cell = cell_of((HR, HR)).tolist()
    words = ", ".join(number(n) for n in rel[nearest])
    lines = (
        ("coord", f"= ({number(y)}, {number(x)})", "the target pixel's centre", INK),
        ("cell", f"= ({cell[0]:.2f}, {cell[1]:.2f}) = (2/12, 2/12)", "its size", INK),
        ("rel", f"= (coord - {LETTERS[nearest]}) x (4, 4) = ({words})", "the arrow", CODES[nearest]),
    )
    for i, (name, value, meaning, fill) in enumerate(lines):
        c.text(left - 60, below + 44 * i, name, 27, fill, "lm")
        c.text(left + 30, below + 44 * i, value, 27, fill, "lm")
        c.text(left + side + 60, below + 44 * i, meaning, 27, fill if fill != INK else GRAY, "rm")


def draw_axis(c: Canvas, left: float, top: float, side: float) -> None:
    def at(x):
        return left + (x + 1) / 2 * side

    c.text(
        left - 90,
        top - 56,
        "3  Along one axis: pixel i of n has its centre at -1 + (2i + 1)/n",
        36,
        anchor="lm",
    )
    for n, y, size in ((LR, top, 30), (HR, top + 96, 25)):
        for i in range(n):
            c.box(
                at(2 * i / n - 1), y, at(2 * (i + 1) / n - 1), y + 84, "#f4f6f8", INK if n == LR else GRAY, 3
            )
            c.dot(at(centre(i, n)), y + 22, 8, GRAY if n == LR else INK, line=None, width=0)
            c.text(at(centre(i, n)), y + 56, number(centre(i, n)), size)
        c.text(left - 20, y + 42, f"n = {n}", 28, anchor="rm")
    y = top + 222
    c.line((at(-1), y), (at(1), y), fill=RED, width=3)
    for i in range(LR):
        x = -1 + 2 * i / (LR - 1)
        for sign in (1, -1):
            c.line((at(x) - 12, y - 12 * sign), (at(x) + 12, y + 12 * sign), fill=RED, width=5)
        c.text(at(x), y + 36, number(x), 26, RED)
    c.text(left - 30, y, "wrong", 28, RED, "rm")
    c.text(left + side / 2, y + 38, "linspace(-1, 1, 4): align_corners", 26, RED)


def main(path: str) -> None:
    c = Canvas()
    draw_ensemble(c, 1090, 235, 570, draw_grids(c, 150, 190, 720))
    draw_axis(c, 150, 1180, 1580)
    c.image.resize((WIDTH, HEIGHT), Image.LANCZOS).save(path, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].endswith(".png"):
        sys.exit(f"draw_coordinates: expected a path that ends in .png, or nothing, got {sys.argv[1]}.")
    main(sys.argv[1] if len(sys.argv) > 1 else str(Path(__file__).parents[1] / "docs" / "coordinates.png"))
