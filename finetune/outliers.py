"""Outliers: films as people really hand them in, and pictures that are no upright frontal chest film at all.

Knows how to treat a film and what may be drawn instead of one. Does not know models, thresholds or files.
"""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from finetune import crude, textures
from finetune.oddities import draw_oddity
from finetune.phantom import draw_phantom
from finetune.scenes import draw_crowd, draw_scene
from finetune.textures import Random, Size

Picture = Image.Image


def treat(film: Picture, rng: Random) -> Picture:
    """The film as it may arrive: cropped, resized, tilted, exposed, lettered, in bars, tinted, off a screen, compressed.

    One in five stays as it is; the others take each treatment, in this order, about one time in three.
    """
    film = film.convert("RGB")
    if rng.random() < 0.2:
        return film
    for change in (_crop, _resize, _tilt, _expose, _letter, _bars, _tint, _photograph, _compress):
        if rng.random() < (0.15 if change is _photograph else 0.35):
            film = change(film, rng)
    return film


def _crop(film: Picture, rng: Random) -> Picture:
    left, top, right, bottom = rng.uniform(0, 0.1, 4) * (*film.size, *film.size)
    return film.crop((int(left), int(top), film.width - int(right), film.height - int(bottom)))


def _resize(film: Picture, rng: Random) -> Picture:
    aspect, side = np.exp(rng.uniform(-0.4, 0.4)), rng.uniform(180, 900)
    return film.resize((round(side * aspect), round(side)), Image.Resampling.BICUBIC)


def _tilt(film: Picture, rng: Random) -> Picture:
    return film.rotate(rng.uniform(-6, 6), Image.Resampling.BILINEAR)


def _expose(film: Picture, rng: Random) -> Picture:
    gamma = np.exp(rng.uniform(-0.45, 0.45))
    film = film.point([round(255 * (v / 255) ** gamma) for v in range(256)] * 3)
    return ImageEnhance.Contrast(ImageEnhance.Brightness(film).enhance(rng.uniform(0.7, 1.25))).enhance(rng.uniform(0.7, 1.3))


def _letter(film: Picture, rng: Random) -> Picture:
    """A lead letter, a line of text in a corner, or both."""
    film = film.copy()
    pen, size = ImageDraw.Draw(film), max(8, film.height // 14)
    for text, scale in (("RL"[int(rng.integers(2))], 1.5), ("PORTABLE 12:40 SUPINE"[: int(rng.integers(6, 22))], 0.5)):
        if rng.random() < 0.6:
            x, y = rng.choice([0.03, 0.75]) * film.width, rng.choice([0.03, 0.9]) * film.height
            pen.text((x, y), text, fill=(int(rng.integers(200, 256)),) * 3, font_size=scale * size)
    return film


def _bars(film: Picture, rng: Random) -> Picture:
    """Bars at two sides or a frame all round, black, white or grey."""
    shade = int(rng.choice([0, 0, 255, int(rng.integers(256))]))
    across, down = rng.uniform(0.02, 0.2, 2) * film.size * ((0, 1), (1, 0), (0.4, 0.4))[int(rng.integers(3))]
    return ImageOps.expand(film, (int(across), int(down)), (shade,) * 3)


def _tint(film: Picture, rng: Random) -> Picture:
    return ImageOps.colorize(film.convert("L"), (0, 0, 0), tuple(int(v) for v in rng.integers(205, 256, 3)))


def _compress(film: Picture, rng: Random) -> Picture:
    packed = io.BytesIO()
    film.save(packed, "JPEG", quality=int(rng.integers(20, 96)))
    return Image.open(packed).convert("RGB")


def _photograph(film: Picture, rng: Random) -> Picture:
    """The film on a screen, seen by a phone: slanted, with moire, a glow, a colour cast and a dark surround."""
    wide, high = film.size
    corners = np.array([[0, 0], [0, high], [wide, high], [wide, 0]]) + rng.uniform(-0.06, 0.06, (4, 2)) * film.size
    film = film.transform(film.size, Image.Transform.QUAD, corners.ravel().tolist(), Image.Resampling.BILINEAR)
    rows, columns = np.mgrid[0:high, 0:wide] / max(film.size)
    waves = np.sin(2 * np.pi * rng.uniform(20, 60) * (columns + rng.uniform(-0.5, 0.5) * rows))
    glow = 1 + rng.uniform(0, 0.25) * (columns * rng.uniform(-1, 1) + rows * rng.uniform(-1, 1))
    colour = rng.uniform(0.85, 1, 3)
    grey = np.asarray(film, np.float32) * glow[..., None] + rng.uniform(2, 6) * waves[..., None]
    grey = (grey + rng.normal(0, 3, grey.shape)) * colour
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.8)))


def turn(film: Picture, rng: Random) -> Picture:
    """The film on its side or on its head."""
    ways = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270, Image.Transpose.FLIP_TOP_BOTTOM)
    return film.transpose(ways[int(rng.integers(len(ways)))])


def part(film: Picture, rng: Random) -> Picture:
    """A piece that no longer shows both lungs: a quarter or less, or the better part of one half."""
    shares = rng.uniform(0.25, 0.45, 2) if rng.random() < 0.6 else np.array([rng.uniform(0.3, 0.45), rng.uniform(0.7, 1)])
    size = shares * film.size
    left, top = rng.uniform(0, 1, 2) * (film.size - size)
    return film.crop((int(left), int(top), int(left + size[0]), int(top + size[1]))).resize(film.size)


def scatter(film: Picture, rng: Random) -> Picture:
    """The film cut into tiles that lie in another order: its textures without its anatomy."""
    n = int(rng.integers(3, 7))
    film = film.resize((60 * n, 60 * n))
    laid = film.copy()
    for place, tile in enumerate(rng.permutation(n * n).tolist()):
        x, y = 60 * (tile % n), 60 * (tile // n)
        laid.paste(film.crop((x, y, x + 60, y + 60)), (60 * (place % n), 60 * (place // n)))
    return laid if rng.random() < 0.5 else laid.filter(ImageFilter.GaussianBlur(3))


def embed(film: Picture, rng: Random) -> Picture:
    """The film small in a program's window, on a page, or several times on one sheet."""
    size = (480, 400)
    paper = (crude.screen, crude.page, textures.blank)[int(rng.integers(3))](rng, size)
    for _ in range(int(rng.integers(1, 4))):
        small = film.resize((int(rng.integers(90, 190)), int(rng.integers(90, 190))))
        paper.paste(small, (int(rng.integers(0, size[0] - small.width)), int(rng.integers(0, size[1] - small.height))))
    return paper


def cross_section(rng: Random, size: Size = (256, 256)) -> Picture:
    """A grey oval body with rounder organs in it on black, as a slice of CT or MR has."""
    picture = Image.new("L", size)
    pen = ImageDraw.Draw(picture)
    wide, high = rng.uniform(0.6, 0.95) * size[0], rng.uniform(0.5, 0.95) * size[1]
    x, y = (size[0] - wide) / 2, (size[1] - high) / 2
    rim = int(rng.integers(2, 18))
    pen.ellipse((x, y, x + wide, y + high), fill=int(rng.integers(60, 255)))
    pen.ellipse((x + rim, y + rim, x + wide - rim, y + high - rim), fill=int(rng.integers(30, 200)))
    for _ in range(int(rng.integers(2, 12))):
        a, b = rng.uniform(0.04, 0.2, 2) * size
        u, v = x + wide * rng.uniform(0.2, 0.8), y + high * rng.uniform(0.2, 0.8)
        pen.ellipse((u - a, v - b, u + a, v + b), fill=int(rng.integers(0, 256)))
    clouds = Image.fromarray(textures.noise(rng, 5)).resize(size)
    grain = rng.normal(0, rng.uniform(2, 14), (size[1], size[0])) + 12 * (np.asarray(clouds) - 0.5)
    grey = np.asarray(picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 3))), np.float32) + grain
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")


def draw_other(rng: Random) -> Picture:
    """A picture that never was a film: a scene, a crowd, an oddity or a phantom; a third of them grey, half of them treated."""
    draws = (lambda: draw_scene(rng).image, lambda: draw_crowd(rng).image, lambda: draw_phantom(rng).image)
    choice = int(rng.integers(7))
    picture = draw_oddity(rng) if choice > 3 else draws[choice % 3]()
    picture = ImageOps.grayscale(picture).convert("RGB") if rng.random() < 0.33 else picture
    return treat(picture, rng) if rng.random() < 0.5 else picture


def draw_elsewhere(rng: Random) -> Picture:
    """A drawn film of a limb, or a drawn slice."""
    return crude.limb(rng, (300, 400)) if rng.random() < 0.5 else cross_section(rng)
