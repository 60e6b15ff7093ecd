"""What an image file holds besides its pixels: orientation, colour profile, descriptive metadata (EXIF)."""

from __future__ import annotations

from PIL import Image

ORIENTATION = 0x0112  # EXIF tag
# Tags that describe the picture and not the file it was in: description, maker, model, resolution (three
# tags), software, date, artist, copyright, details of the exposure, place.
DESCRIPTIVE = {270, 271, 272, 282, 283, 296, 305, 306, 315, 33432, 34665, 34853}


def profile_of(image: Image.Image) -> bytes | None:
    """Return the colour profile of ``image`` if it still holds after ``reading.upright``.

    The profile of a CMYK, Lab or YCbCr image describes a colour space that the conversion to RGB leaves.
    """
    return None if image.mode in ("CMYK", "LAB", "YCbCr") else image.info.get("icc_profile")


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation of ``image``, 1 to 8; 1 if there is none or it cannot be read."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged metadata breaks Pillow in many ways, and is no reason to refuse a picture
        return 1


def description_of(image: Image.Image) -> bytes | None:
    """Return the EXIF data that describe the picture, without the mark 'Exif'; None if there are none.

    The other tags are taken out of ``image``.
    """
    try:
        exif = image.getexif()
        for tag in [tag for tag in exif if tag not in DESCRIPTIVE]:
            del exif[tag]
        return exif.tobytes().removeprefix(b"Exif\0\0") if len(exif) else None
    except Exception:  # as above
        return None
