"""Published PSNR in dB: set -> model -> scale -> value.

DIV2K valid: Tables 1 and 3 of the LIIF paper (CVPR 2021); RGB, shave scale + 6. Set5, Set14, B100, Urban100:
its Table 2 and, for Bicubic and EDSR-baseline-LIIF, the common literature and later papers; luma, shave
scale. celebAHQ: Table 4.
"""

from __future__ import annotations

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
# from LIIF's evaluation code. The rule of a row that is not here is not known.
GRAY_RULES = {
    "Bicubic": "luma",
    "EDSR-baseline-LIIF": "RGB",
    "RDN-LIIF": "RGB",
    "RDN-MetaSR": "RGB",
}


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
