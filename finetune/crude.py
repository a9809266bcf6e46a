"""Crude drawings: landscapes, pages, faces and other things that Hilum is not made for.

Knows how to draw them, without care for beauty. Does not know what is asked about them, or files.
"""

from string import ascii_lowercase

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from finetune.textures import SMALL, Random, Size, colour, noise, painted


def landscape(rng: Random, size: Size) -> Image.Image:
    """Sky with clouds above ground with grain, some blobs on it."""
    clouds = painted(noise(rng, 5), [colour(rng, 90, 200), colour(rng, 170, 256)], size)
    ground = painted(noise(rng, 6, 4, 0.7), [colour(rng, 10, 110), colour(rng, 60, 190)], size)
    width, height = size
    xs = np.linspace(0, width, 40)
    ridge = np.interp(xs, np.linspace(0, width, 9), rng.uniform(0.4, 0.62, 9) * height)
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).polygon([*np.stack([xs, ridge], 1).ravel().tolist(), width, height, 0, height], fill=255)
    clouds.paste(ground, mask=mask)
    pen = ImageDraw.Draw(clouds)
    for _ in range(int(rng.integers(0, 14))):
        x, y, r = rng.uniform(0, width), rng.uniform(0.45, 0.95) * height, rng.uniform(0.02, 0.1) * width
        pen.ellipse((x - r, y - r * 0.8, x + r, y + r * 0.7), fill=colour(rng, 20, 160))
    return clouds.filter(ImageFilter.BoxBlur(float(rng.uniform(0, 2))))


def bokeh(rng: Random, size: Size) -> Image.Image:
    """Blurred discs of light that overlap on a dim ground."""
    picture = painted(noise(rng, 2), [colour(rng, 0, 80), colour(rng, 20, 120)], size)
    for _ in range(3):
        layer = picture.copy()
        pen = ImageDraw.Draw(layer)
        for _ in range(int(rng.integers(8, 25))):
            x, y, r = rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(8, 60)
            pen.ellipse((x - r, y - r, x + r, y + r), fill=colour(rng, 90, 256))
        picture = Image.blend(picture, layer.filter(ImageFilter.BoxBlur(float(rng.uniform(2, 8)))), 0.45)
    return picture


def silhouette(rng: Random, size: Size) -> Image.Image:
    """Mountains, a skyline or trees, dark before a sky."""
    width, height = size
    rows = np.repeat(np.linspace(0, 1, SMALL)[:, None], SMALL, 1)
    picture = painted(rows, [colour(rng, 60, 220), colour(rng, 120, 256)], size)
    pen, kind = ImageDraw.Draw(picture), int(rng.integers(3))
    for layer in range(3):
        ink, base = colour(rng, 10, 120 - 35 * layer), height * (0.5 + 0.15 * layer)
        if kind == 0:
            xs = np.linspace(0, width, 30)
            ys = base - np.abs(np.cumsum(rng.normal(0, 0.03 * height, 30)))
            pen.polygon([*np.stack([xs, ys], 1).ravel().tolist(), width, height, 0, height], fill=ink)
            continue
        pen.rectangle((0, base + 0.1 * height, width, height), fill=ink)
        x = 0.0
        while x < width:
            wide, tall = rng.uniform(0.04, 0.14) * width, rng.uniform(0.05, 0.35) * height
            if kind == 1:
                pen.rectangle((x, base - tall, x + wide, height), fill=ink)
            else:
                pen.polygon((x, base + 0.1 * height, x + wide / 2, base - tall, x + wide, base + 0.1 * height), fill=ink)
            x += wide * (1 if kind == 1 else rng.uniform(0.6, 1.6))
    return picture


def page(rng: Random, size: Size) -> Image.Image:
    """A document: a heading, lines of letters, perhaps a framed figure."""
    width, height = size
    picture = Image.new("RGB", size, colour(rng, 225, 256))
    pen = ImageDraw.Draw(picture)
    margin, step, ink = rng.uniform(0.06, 0.14) * width, int(rng.integers(13, 22)), colour(rng, 0, 70)
    pen.rectangle((margin, 0.05 * height, rng.uniform(0.4, 0.8) * width, 0.05 * height + step), fill=ink)
    letters = list(ascii_lowercase + "     ")
    real = rng.random() < 0.6
    for y in range(round(0.05 * height + 2 * step), round(0.93 * height), step):
        if rng.random() < 0.12:
            continue
        if real:
            pen.text((margin, y), "".join(rng.choice(letters, int((width - 2 * margin) / 6.5))), fill=ink)
            continue
        x = margin
        while x < width - margin:
            end = min(width - margin, x + rng.uniform(8, 50))
            pen.rectangle((x, y, end, y + step * 0.4), fill=ink)
            x = end + 6
    if rng.random() < 0.4:
        top = rng.uniform(0.3, 0.6) * height
        pen.rectangle((margin, top, width - margin, top + 0.25 * height), fill=colour(rng, 120, 240), outline=ink, width=2)
    return picture


def chart(rng: Random, size: Size) -> Image.Image:
    """Axes with bars, lines or dots."""
    width, height = size
    picture = Image.new("RGB", size, colour(rng, 235, 256) if rng.random() < 0.8 else colour(rng, 0, 50))
    pen = ImageDraw.Draw(picture)
    left, bottom, right, top = 0.12 * width, 0.88 * height, 0.95 * width, 0.08 * height
    for y in np.linspace(top, bottom, int(rng.integers(4, 9))):
        pen.line((left, y, right, y), fill=(190, 190, 190))
    count, kind = int(rng.integers(5, 16)), int(rng.integers(3))
    xs = np.linspace(left, right, count + 1)
    for _ in range(1 if kind == 0 else int(rng.integers(1, 5))):
        ys, ink = bottom - rng.random(count + 1) * (bottom - top), colour(rng, 20, 220)
        if kind == 0:
            for x, after, y in zip(xs[:-1], xs[1:], ys[:-1], strict=True):
                pen.rectangle((x + 3, y, after - 3, bottom), fill=ink)
        elif kind == 1:
            pen.line(np.stack([xs, ys], 1).ravel().tolist(), fill=ink, width=int(rng.integers(2, 5)))
        else:
            for x, y in zip(rng.uniform(left, right, 40), rng.uniform(top, bottom, 40), strict=True):
                pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=ink)
    pen.line((left, top, left, bottom, right, bottom), fill=(90, 90, 90), width=2)
    return picture


def screen(rng: Random, size: Size) -> Image.Image:
    """A program's window: bars, panels, buttons and lines of text."""
    width, height = size
    dark = rng.random() < 0.4
    low, high = (15, 60) if dark else (215, 256)
    picture = Image.new("RGB", size, colour(rng, low, high))
    pen, accent, ink = ImageDraw.Draw(picture), colour(rng, 30, 220), (225, 225, 225) if dark else (50, 50, 50)
    pen.rectangle((0, 0, width, 0.08 * height), fill=accent)
    edge = rng.uniform(0.18, 0.32) * width
    pen.rectangle((0, 0.08 * height, edge, height), fill=colour(rng, low, high))
    for y in np.arange(0.12 * height, 0.95 * height, 24):
        pen.rectangle((10, y, rng.uniform(0.4, 0.9) * edge, y + 7), fill=ink)
    for _ in range(int(rng.integers(3, 9))):
        x, y = rng.uniform(edge + 10, 0.8 * width), rng.uniform(0.12, 0.85) * height
        box = (x, y, x + rng.uniform(0.1, 0.4) * width, y + rng.uniform(0.04, 0.25) * height)
        pen.rounded_rectangle(box, 6, fill=accent if rng.random() < 0.3 else colour(rng, low, high), outline=ink)
        pen.text((x + 8, y + 4), "".join(rng.choice(list(ascii_lowercase), int(rng.integers(3, 12)))), fill=ink)
    return picture


def crowd(rng: Random, size: Size) -> Image.Image:
    """Hundreds of tiny strokes and spots of any colour."""
    picture = painted(noise(rng, 3), [colour(rng), colour(rng)], size)
    pen, reach, many = ImageDraw.Draw(picture), rng.uniform(3, 14), int(rng.integers(300, 900))
    starts = rng.uniform(0, 1, (many, 2)) * size
    ends = starts + rng.normal(0, reach, (many, 2))
    inks, widths = rng.integers(0, 256, (many, 3)).tolist(), rng.integers(1, 6, many).tolist()
    for start, end, ink, width in zip(starts.tolist(), ends.tolist(), inks, widths, strict=True):
        pen.line((*start, *end), fill=tuple(ink), width=width)
    return picture


def faces(rng: Random, size: Size) -> Image.Image:
    """One to four cartoon heads."""
    picture = painted(noise(rng, 2), [colour(rng), colour(rng)], size)
    pen = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(1, 5))):
        r = rng.uniform(0.14, 0.3) * min(size)
        x, y = rng.uniform(r, size[0] - r), rng.uniform(r, size[1] - r)
        skin = (int(rng.integers(90, 256)), int(rng.integers(60, 200)), int(rng.integers(40, 160)))
        pen.ellipse((x - r, y - 1.25 * r, x + r, y + 0.6 * r), fill=colour(rng, 0, 150))
        pen.ellipse((x - 0.85 * r, y - r, x + 0.85 * r, y + 1.1 * r), fill=skin)
        for way in (-1, 1):
            eye = x + way * 0.35 * r
            pen.ellipse((eye - 0.15 * r, y - 0.3 * r, eye + 0.15 * r, y - 0.08 * r), fill=(250, 250, 250))
            pen.ellipse((eye - 0.07 * r, y - 0.26 * r, eye + 0.07 * r, y - 0.12 * r), fill=colour(rng, 0, 120))
        pen.line((x, y, x - 0.1 * r, y + 0.3 * r, x + 0.05 * r, y + 0.32 * r), fill=(90, 50, 40), width=3)
        pen.arc((x - 0.4 * r, y + 0.25 * r, x + 0.4 * r, y + 0.75 * r), 20, 160, fill=(170, 40, 50), width=5)
    return picture.filter(ImageFilter.BoxBlur(float(rng.uniform(0, 3))))


def limb(rng: Random, size: Size) -> Image.Image:
    """A grey arm or leg with one or two bright long bones and a joint, on dark, as in a film of a limb."""
    small = (size[0] // 2, size[1] // 2)
    soft, bone = Image.new("L", small), Image.new("L", small)
    flesh, hard = ImageDraw.Draw(soft), ImageDraw.Draw(bone)
    middle, length = np.array(small) / 2, 0.75 * max(small)
    angle = rng.uniform(0, np.pi)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    width, joint = rng.uniform(0.16, 0.3) * min(small), rng.uniform(-0.25, 0.25)
    flesh.line([*(middle - along * length), *(middle + along * length)], fill=255, width=int(1.6 * width))
    for offset in [0.0] if rng.random() < 0.4 else [-0.32, 0.32]:
        for start, end in ((-1.0, joint - 0.03), (joint + 0.03, 1.0)):
            ends = [middle + along * length * s + across * offset * width for s in (start, end)]
            thick = width * (0.3 if offset else 0.45)
            hard.line([*ends[0], *ends[1]], fill=200, width=max(3, int(thick)))
            hard.line([*ends[0], *ends[1]], fill=120, width=max(1, int(0.45 * thick)))
            for x, y in ends:
                hard.ellipse((x - 0.75 * thick, y - 0.75 * thick, x + 0.75 * thick, y + 0.75 * thick), fill=190)
    grey = 70.0 * np.asarray(soft.filter(ImageFilter.BoxBlur(7)), np.float32) / 255
    grey += np.asarray(bone.filter(ImageFilter.BoxBlur(1.2)), np.float32) * rng.uniform(0.5, 0.8)
    grey += rng.uniform(3, 14) + rng.normal(0, 3, grey.shape)
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC).convert("RGB")
