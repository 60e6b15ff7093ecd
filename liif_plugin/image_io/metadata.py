"""What a picture file says besides its pixels: which way is up, its colour profile, what describes it."""

from __future__ import annotations

from PIL import Image

ORIENTATION = 0x0112  # EXIF tag
# what describes the picture and not the file it was in: description, maker, model, resolution, software, date, artist, copyright, details
DESCRIPTIVE = {270, 271, 272, 282, 283, 296, 305, 306, 315, 33432, 34665, 34853}


def profile_of(image: Image.Image) -> bytes | None:
    """The colour profile that still holds for what ``upright`` makes of ``image``: not one of a space that it leaves."""
    return None if image.mode in ("CMYK", "LAB", "YCbCr") else image.info.get("icc_profile")


def orientation_of(image: Image.Image) -> int:
    """The EXIF tag, 1 where there is none. Metadata that cannot be read is no reason to refuse the picture."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # wrong types within it break Pillow in many ways
        return 1


def description_of(image: Image.Image) -> bytes | None:
    """The EXIF data that describe the picture, without 'Exif'. Takes the other tags out of ``image``."""
    try:
        exif = image.getexif()
        for tag in [tag for tag in exif if tag not in DESCRIPTIVE]:
            del exif[tag]
        return exif.tobytes().removeprefix(b"Exif\0\0") if len(exif) else None
    except Exception:
        return None
