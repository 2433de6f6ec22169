"""The colours of people, clothes and backgrounds."""

from musetalk_drawn.figure.canvas import Colour

SKINS: tuple[Colour, ...] = (
    (250, 218, 196),
    (243, 201, 172),
    (232, 184, 150),
    (216, 163, 124),
    (193, 138, 100),
    (160, 108, 76),
    (126, 82, 58),
    (98, 64, 48),
)
HAIRS: tuple[Colour, ...] = (
    (42, 32, 34),
    (66, 44, 36),
    (102, 66, 44),
    (140, 92, 54),
    (196, 148, 84),
    (226, 190, 128),
    (158, 72, 40),
    (150, 148, 152),
    (64, 62, 84),
)
EYES: tuple[Colour, ...] = ((92, 58, 36), (62, 96, 128), (78, 118, 84), (116, 88, 48), (56, 40, 34), (98, 118, 130))
CLOTHES: tuple[Colour, ...] = (
    (58, 104, 132),
    (212, 96, 78),
    (232, 180, 84),
    (84, 132, 104),
    (112, 88, 140),
    (238, 232, 222),
    (64, 68, 86),
    (190, 104, 130),
)
BACKGROUNDS: tuple[tuple[Colour, Colour], ...] = (
    ((246, 226, 204), (232, 186, 164)),
    ((206, 226, 232), (150, 186, 206)),
    ((222, 214, 236), (176, 164, 208)),
    ((214, 230, 210), (158, 192, 168)),
    ((240, 236, 228), (204, 198, 190)),
    ((88, 102, 132), (48, 58, 84)),
    ((250, 214, 190), (228, 150, 138)),
    ((120, 150, 148), (66, 96, 104)),
)
TEETH: Colour = (250, 246, 238)
MOUTH: Colour = (84, 26, 34)
TONGUE: Colour = (212, 104, 104)
WHITE: Colour = (255, 255, 255)
INK: Colour = (40, 26, 28)


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """`one`, with `share` of it (0 to 1) replaced by `other`."""
    red, green, blue = (a + (b - a) * share for a, b in zip(one, other, strict=True))
    return red, green, blue


def shadow(colour: Colour, depth: float = 1.0) -> Colour:
    """The colour in shadow: darker, and warmer for what is light."""
    return mix(colour, (colour[0] * 0.72, colour[1] * 0.58, colour[2] * 0.60), depth)


def lit(colour: Colour, share: float = 0.4) -> Colour:
    """The colour in full, warm light."""
    return mix(colour, (255, 246, 228), share)


def lips(skin: Colour) -> Colour:
    """The lips that go with a skin."""
    return mix((skin[0] * 0.86, skin[1] * 0.56, skin[2] * 0.56), (204, 98, 100), 0.34)
