"""Oddities: pictures that are neither chest films nor scenes, for learning to say that one cannot tell.

Knows the families and draws lots. Does not know films, scenes, questions or files.
"""

from PIL import Image

from finetune import crude, textures
from finetune.textures import Random

FAMILIES = (
    textures.plasma,
    textures.static,
    textures.gradient,
    textures.blank,
    textures.pattern,
    textures.wood,
    textures.stars,
    crude.landscape,
    crude.bokeh,
    crude.silhouette,
    crude.page,
    crude.chart,
    crude.screen,
    crude.crowd,
    crude.faces,
    crude.limb,
)


def draw_oddity(rng: Random) -> Image.Image:
    """An RGB picture of 300 to 600 pixels a side, of one of `FAMILIES`; some are grey, half are mirrored."""
    size = (int(rng.integers(300, 601)), int(rng.integers(300, 601)))
    picture = FAMILIES[int(rng.integers(len(FAMILIES)))](rng, size)
    if rng.random() < 0.15:
        picture = picture.convert("L").convert("RGB")
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else picture
