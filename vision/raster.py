"""Rasters: the picture in a file that Pillow has opened, upright, on paper, and windowed where it is wider than 8 bits.

Knows Pillow's modes and EXIF's orientation. Does not know which formats may be opened, or how large.
"""

import numpy as np
from PIL import Image
from PIL.ExifTags import Base
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import IMAGELENGTH, PHOTOMETRIC_INTERPRETATION, TiffImageFile

from vision.study import Study
from vision.windowing import Function, Raw, first_look


def read_raster(file: ImageFile) -> Study:
    """The first picture of a file that Pillow has opened; every exception means a damaged file."""
    rows = max((tile.extents[3] for tile in file.tile if tile.extents), default=0)
    if isinstance(file, TiffImageFile) and rows < file.tag_v2[IMAGELENGTH]:
        raise ValueError("The strips hold fewer rows than the image.")  # Pillow would leave the others black
    file.load()
    turn = _turn(file)
    image: Image.Image = file.transpose(turn) if turn is not None else file
    window = None
    if file.mode in ("I", "F") or file.mode.startswith("I;16"):
        # Pillow inverts "white is zero" for 8 bits and forgets to for more.
        is_negative = isinstance(file, TiffImageFile) and file.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0
        values = np.asarray(image)
        function: Function = "LINEAR_EXACT" if file.mode == "F" else "LINEAR"
        wide = Raw(values, bits=8 * values.itemsize, is_negative=is_negative, function=function)
        grey, window = first_look(wide)
        raw: Raw | None = wide
        image = grey.convert("RGB")
    else:
        image = (_on_paper(image.convert("RGBA")) if file.has_transparency_data else image).convert("RGB")
        raw = _grey_of(image)
    image.info.clear()
    return Study(image, window=window, raw=raw)


def _grey_of(image: Image.Image) -> Raw | None:
    """The values of an RGB image whose channels are all the same; None for colour, which a sample mostly shows at once."""
    sample = np.asarray(image.resize((min(64, image.width), min(64, image.height)), Image.Resampling.NEAREST))
    if np.ptp(sample, axis=-1).any():
        return None
    red, green, blue = (np.asarray(channel) for channel in image.split())
    return Raw(red) if np.array_equal(red, green) and np.array_equal(red, blue) else None


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _turn(file: ImageFile) -> Image.Transpose | None:
    """What sets a loaded file upright, by its EXIF. Pillow has turned a TIFF by then; a damaged EXIF says nothing."""
    if isinstance(file, TiffImageFile):
        return None
    try:
        return _TURNS.get(file.getexif().get(Base.Orientation, 1))
    except Exception:  # the pixels are whole; only the note beside them is not
        return None


def _on_paper(image: Image.Image) -> Image.Image:
    """An RGBA image on white; on black when what it shows is itself white; as it is when its alpha hides everything."""
    alpha, colours = image.getchannel("A"), image.convert("RGB")
    shades = colours.convert("L").histogram(alpha)
    if not any(shades):
        return colours
    is_white = sum(shades[:240]) < 0.01 * sum(shades)
    paper = Image.new("RGB", image.size, "black" if is_white else "white")
    paper.paste(colours, mask=alpha)
    return paper
