"""Tables and scales as text."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import DataRow, Line, TableFormat, tabulate

# booktabs with cells that are LaTeX already: tabulate's own format would escape \textbf
_BOOKTABS = TableFormat(
    lineabove=Line("\\toprule", "", "", ""),
    linebelowheader=Line("\\midrule", "", "", ""),
    linebetweenrows=None,
    linebelow=Line("\\bottomrule", "", "", ""),
    headerrow=DataRow("", " & ", " \\\\"),
    datarow=DataRow("", " & ", " \\\\"),
    padding=0,
    with_header_hide=None,
)
_LATEX_ESCAPES = str.maketrans(
    {
        **{mark: f"\\{mark}" for mark in "&%$#_{}"},
        "\\": "\\textbackslash{}",
        "~": "\\textasciitilde{}",
        "^": "\\textasciicircum{}",
    }
)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns, so that it reads well as plain text too.

    Args:
        header: one text for each column.
        rows: rows of as many texts, printed as they are.

    Example:
        >>> print(markdown_table(["model", "x2"], [["Bicubic", "33.68"], ["LIIF", ""]]))
        | model   | x2    |
        |---------|-------|
        | Bicubic | 33.68 |
        | LIIF    |       |
    """
    return tabulate(rows, header, tablefmt="github", disable_numparse=True)


def latex_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    r"""Return a LaTeX tabular with the rules of booktabs: the first column left-aligned, the others centred.

    Args:
        header: one LaTeX text for each column; see ``latex_text``.
        rows: rows of as many LaTeX texts.

    Example:
        >>> print(latex_table(["model", r"$\times$2"], [["LIIF", r"\textbf{37.99}"]]))
        \begin{tabular}{lc}
        \toprule
        model   & $\times$2      \\
        \midrule
        LIIF    & \textbf{37.99} \\
        \bottomrule
        \end{tabular}
    """
    columns = "l" + "c" * (len(header) - 1)
    body = tabulate(rows, header, tablefmt=_BOOKTABS, disable_numparse=True)
    return f"\\begin{{tabular}}{{{columns}}}\n{body}\n\\end{{tabular}}"


def latex_text(text: str) -> str:
    r"""Return ``text`` with the characters escaped that LaTeX reads as commands.

    Example:
        >>> print(latex_text("img_003 & 100 %"))
        img\_003 \& 100 \%
    """
    return text.translate(_LATEX_ESCAPES)


def scale_text(scale: Sequence[float]) -> str:
    """Return how a scale is printed: one number, or width x height as the command line takes it.

    Args:
        scale: (sy, sx), the order of Python and of option files.

    Example:
        >>> scale_text((2.0, 2.0)), scale_text((2.0, 3.1))
        ('x2', 'x3.1x2')
    """
    sy, sx = scale
    return f"x{sx:g}" if sy == sx else f"x{sx:g}x{sy:g}"
