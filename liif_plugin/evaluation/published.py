"""Published PSNR in dB: set -> model -> scale -> value.

DIV2K valid: RGB, shave scale + 6. Set5, Set14, B100, Urban100, Manga109: luma, shave scale. ``SOURCES`` says
where each row was read.
"""

from __future__ import annotations

_PAPER = "LIIF paper (CVPR 2021)"
_SURVEY = "survey of Liu et al. (Information Fusion 2023), Tables 2 to 4"
_THERA = "project page of Thera, therasr.github.io (March 2025)"
_QUOTED = "as quoted on the project page of Thera, therasr.github.io (March 2025)"

# Where each row was read.
SOURCES = {
    "Bicubic": f"DIV2K valid: {_PAPER}; other sets: the common literature",
    "EDSR-baseline": _PAPER,
    "EDSR-baseline-MetaSR": _PAPER,
    "EDSR-baseline-LIIF": f"DIV2K valid: {_PAPER}; other sets: later papers",
    "RDN": _PAPER,
    "RDN-MetaSR": _PAPER,
    "RDN-LIIF": _PAPER,
    "LIIF (-c)": _PAPER,
    "LIIF (-u)": _PAPER,
    "LIIF (-e)": _PAPER,
    "LIIF (-d)": _PAPER,
    "Up-sampling modules": _PAPER,
    "LIIF": _PAPER,
    "EDSR-baseline-LTE": _SURVEY,
    "RDN-LTE": _SURVEY,
    "SwinIR-LTE": _SURVEY,
    "EDSR-baseline-CUF": _QUOTED,
    "EDSR-baseline-CiaoSR": _QUOTED,
    "EDSR-baseline-CLIT": _QUOTED,
    "EDSR-baseline-SRNO": _QUOTED,
    "EDSR-baseline-MSIT": _QUOTED,
    "EDSR-baseline-Thera air": _THERA,
    "EDSR-baseline-Thera plus": _THERA,
    "EDSR-baseline-Thera pro": _THERA,
    "RDN-SRNO": _QUOTED,
    "RDN-Thera air": _THERA,
    "RDN-Thera plus": _THERA,
    "RDN-Thera pro": _THERA,
}
# Rows that were made with ``cell_clamp``, beyond this scale. LTE's evaluation always has it; SRNO's has it
# behind an option, and its demo always.
CELL_CLAMPS = {
    "EDSR-baseline-LTE": 4,
    "RDN-LTE": 4,
    "SwinIR-LTE": 4,
    "EDSR-baseline-SRNO": 4,
    "RDN-SRNO": 4,
}

_DIV2K_SCALES = (2, 3, 4, 6, 12, 18, 24, 30)
_BENCHMARK_SCALES = (2, 3, 4, 6, 8)


def _rows(scales: tuple[int, ...], rows: dict[str, str]) -> dict[str, dict[float, float]]:
    return {model: dict(zip(scales, map(float, values.split()))) for model, values in rows.items()}


PUBLISHED: dict[str, dict[str, dict[float, float]]] = {
    "DIV2K_valid": _rows(
        _DIV2K_SCALES,
        {
            "Bicubic": "31.01 28.22 26.66 24.82 22.27 21.00 20.19 19.59",
            "EDSR-baseline": "34.55 30.90 28.94",
            "EDSR-baseline-MetaSR": "34.64 30.93 28.92 26.61 23.55 22.03 21.06 20.37",
            "EDSR-baseline-LIIF": "34.67 30.96 29.00 26.75 23.71 22.17 21.18 20.48",
            "RDN-MetaSR": "35.00 31.27 29.25 26.88 23.73 22.18 21.17 20.47",
            "RDN-LIIF": "34.99 31.26 29.27 26.99 23.89 22.34 21.31 20.59",
            "LIIF (-c)": "34.53 30.92 28.97 26.73 23.72 22.19 21.19 20.51",
            "LIIF (-u)": "34.64 30.94 28.98 26.73 23.69 22.16 21.17 20.47",
            "LIIF (-e)": "34.63 30.95 28.97 26.72 23.66 22.13 21.14 20.45",
            "LIIF (-d)": "34.65 30.94 28.98 26.71 23.64 22.10 21.12 20.42",
            "EDSR-baseline-LTE": "34.72 31.02 29.04 26.81 23.78 22.23 21.24 20.53",
            "RDN-LTE": "35.04 31.32 29.33 27.04 23.95 22.40 21.36 20.64",
            "SwinIR-LTE": "35.24 31.50 29.51 27.20 24.09 22.50 21.47 20.73",
            "EDSR-baseline-CUF": "34.79 31.07 29.09 26.82 23.78 22.24",
            "EDSR-baseline-CiaoSR": "34.88 31.12 29.19 26.92 23.85 22.30 21.29 20.44",
            "EDSR-baseline-CLIT": "34.81 31.12 29.15 26.92 23.83 22.29 21.26 20.53",
            "EDSR-baseline-SRNO": "34.85 31.11 29.16 26.90 23.84 22.29 21.27 20.56",
            "EDSR-baseline-MSIT": "34.95 31.23 29.22 26.94 23.83 22.27 21.26 20.54",
            "EDSR-baseline-Thera air": "34.75 31.09 29.10 26.84 23.80 22.26 21.26 20.56",
            "EDSR-baseline-Thera plus": "34.89 31.22 29.24 26.96 23.89 22.34 21.32 20.61",
            "EDSR-baseline-Thera pro": "35.19 31.50 29.51 27.19 24.09 22.51 21.48 20.73",
            "RDN-SRNO": "35.16 31.42 29.42 27.12 24.03 22.46 21.41 20.68",
            "RDN-Thera air": "35.06 31.42 29.43 27.13 24.04 22.48 21.44 20.71",
            "RDN-Thera plus": "35.00 31.40 29.44 27.16 24.06 22.49 21.45 20.71",
            "RDN-Thera pro": "35.25 31.56 29.57 27.25 24.14 22.56 21.52 20.77",
        },
    ),
    "Set5": _rows(
        _BENCHMARK_SCALES,
        {
            "Bicubic": "33.66 30.39 28.42",
            "RDN": "38.24 34.71 32.47",
            "RDN-MetaSR": "38.22 34.63 32.38 29.04 26.96",
            "RDN-LIIF": "38.17 34.68 32.50 29.15 27.14",
            "EDSR-baseline-LIIF": "37.99 34.40 32.24 28.96 26.98",
            "EDSR-baseline-LTE": "38.04 34.43 32.24 28.97 27.04",
            "RDN-LTE": "38.23 34.72 32.61 29.32 27.26",
            "SwinIR-LTE": "38.33 34.89 32.81 29.50 27.35",
            "RDN-SRNO": "38.32 34.84 32.69",
            "RDN-Thera air": "38.18 34.75 32.60",
            "RDN-Thera pro": "38.36 34.88 32.79",
        },
    ),
    "Set14": _rows(
        _BENCHMARK_SCALES,
        {
            "Bicubic": "30.24 27.55 26.00",
            "RDN": "34.01 30.57 28.81",
            "RDN-MetaSR": "33.98 30.54 28.78 26.51 24.97",
            "RDN-LIIF": "33.97 30.53 28.80 26.64 25.15",
            "EDSR-baseline-LIIF": "33.66 30.34 28.62 26.45 24.94",
            "EDSR-baseline-LTE": "33.72 30.37 28.65 26.50 24.99",
            "RDN-LTE": "34.09 30.58 28.88 26.71 25.16",
            "SwinIR-LTE": "34.25 30.80 29.06 26.86 25.42",
            "RDN-SRNO": "34.27 30.71 28.97",
            "RDN-Thera air": "34.13 30.70 28.95",
            "RDN-Thera pro": "34.43 30.85 29.08",
        },
    ),
    "B100": _rows(
        _BENCHMARK_SCALES,
        {
            "Bicubic": "29.56 27.21 25.96",
            "RDN": "32.34 29.26 27.72",
            "RDN-MetaSR": "32.33 29.26 27.71 25.90 24.83",
            "RDN-LIIF": "32.32 29.26 27.74 25.98 24.91",
            "EDSR-baseline-LIIF": "32.17 29.10 27.60 25.84 24.79",
            "EDSR-baseline-LTE": "32.21 29.14 27.62 25.87 24.82",
            "RDN-LTE": "32.36 29.30 27.77 26.01 24.95",
            "SwinIR-LTE": "32.44 29.39 27.86 26.09 25.03",
            "RDN-SRNO": "32.43 29.37 27.83",
            "RDN-Thera air": "32.33 29.29 27.80",
            "RDN-Thera pro": "32.46 29.39 27.87",
        },
    ),
    "Urban100": _rows(
        _BENCHMARK_SCALES,
        {
            "Bicubic": "26.88 24.46 23.14",
            "RDN": "32.89 28.80 26.61",
            "RDN-MetaSR": "32.92 28.82 26.55 23.99 22.59",
            "RDN-LIIF": "32.87 28.82 26.68 24.20 22.79",
            "EDSR-baseline-LIIF": "32.15 28.22 26.15 23.79 22.45",
            "EDSR-baseline-LTE": "32.29 28.32 26.24 23.85 22.53",
            "RDN-LTE": "33.04 28.97 26.81 24.28 22.88",
            "SwinIR-LTE": "33.50 29.41 27.24 24.62 23.17",
            "RDN-SRNO": "33.33 29.14 26.98",
            "RDN-Thera air": "33.16 29.14 26.91",
            "RDN-Thera pro": "33.63 29.58 27.26",
        },
    ),
    "Manga109": _rows(
        _BENCHMARK_SCALES,
        {
            "RDN-SRNO": "39.52 34.67 31.61",
            "RDN-Thera air": "39.03 34.57 31.66",
            "RDN-Thera pro": "39.62 34.98 31.98",
        },
    ),
    "celebAHQ_64_128": {"Up-sampling modules": {2: 34.78}, "LIIF": {2: 35.96}},
    "celebAHQ_32_256": {"Up-sampling modules": {8: 27.56}, "LIIF": {8: 27.74}},
}


PROTOCOL_OF = {
    "DIV2K_valid": "div2k",
    "celebAHQ_64_128": "plain",
    "celebAHQ_32_256": "plain",
}  # the others: benchmark

# Images that a set stores in gray, by name without extension: Set14's bridge.
GRAY_IMAGES = {"Set14": ("img_003",)}
# How the PSNR of a published row takes a gray image. "RGB": as three equal channels, which gives +1.32 dB on
# bridge and +0.09 dB on the average of Set14. "luma": its gray value is its luma, as in MATLAB-based work.
# EDSR-baseline-LIIF was checked with the authors' weights, Bicubic by computing it; the other RGB rows come
# from LIIF's evaluation code or one that is built on it. The rule of a row that is not here is not known.
GRAY_RULES = {
    "Bicubic": "luma",
    "EDSR-baseline-LIIF": "RGB",
    "RDN-LIIF": "RGB",
    "RDN-MetaSR": "RGB",
    "EDSR-baseline-LTE": "RGB",
    "RDN-LTE": "RGB",
    "SwinIR-LTE": "RGB",
}


def same_cells(model: str | None, scale: float, cell_clamp: float | None) -> bool:
    """Return whether a row was made with the cells that ``cell_clamp`` gives at ``scale``.

    Args:
        model: a row of PUBLISHED.
        scale: of both axes.
        cell_clamp: of the model that is compared with it; None is the true cell.

    Example:
        >>> same_cells("RDN-LTE", 6, 4), same_cells("RDN-LTE", 6, None), same_cells("RDN-LTE", 3, None)
        (True, False, True)
    """
    used, expected = (min(scale, limit or scale) for limit in (cell_clamp, CELL_CLAMPS.get(model or "")))
    return used == expected


def published(dataset: str | None, model: str | None, scale: float | None, metric_type: str) -> float | None:
    """Return a published value in dB, or None if there is none. Only PSNR on floats was published.

    Args:
        dataset: a key of PUBLISHED.
        model: a row of that set.
        scale: of both axes.
        metric_type: the registered name of a metric.

    Example:
        >>> published("Set5", "RDN-LIIF", 8, "continuous_psnr")
        27.14
    """
    if metric_type != "continuous_psnr" or dataset is None or model is None or scale is None:
        return None
    return PUBLISHED.get(dataset, {}).get(model, {}).get(scale)
