"""The visemes: the mouth that each phoneme aims at."""

from typing import NamedTuple

from musetalk_drawn.figure.mouth_state import MouthState as Mouth


class Viseme(NamedTuple):
    """A mouth to aim at, how hard, and whether it holds the opening down against its neighbours: 0 to 1."""

    aim: Mouth
    weight: float = 1.0
    hold: float = 0.0


REST = "rest"
VISEMES = {
    REST: Viseme(Mouth(), 1.2),
    "M": Viseme(Mouth(press=1), 2.0, 1.0),
    "F": Viseme(Mouth(0.13, 0.08, 0.1, lift=0.5, tuck=1), 1.8, 1.0),
    "TH": Viseme(Mouth(0.27, 0.12, 0.15, lift=0.2, tongue=0.2, tip=1), 1.4, 0.7),
    "T": Viseme(Mouth(0.22, 0.08, 0.25, lift=0.25, tongue=0.7), 0.7, 0.4),
    "L": Viseme(Mouth(0.48, 0.38, 0.1, lift=0.1, tongue=1), 0.9),
    "S": Viseme(Mouth(0.19, 0.03, 0.55, lift=0.45), 1.2, 0.8),
    "SH": Viseme(Mouth(0.27, 0.08, -0.2, 0.55, 0.5), 1.5, 0.8),
    "K": Viseme(Mouth(0.3, 0.22, 0.1, lift=0.1), 0.35),
    "H": Viseme(Mouth(0.35, 0.3), 0.1),
    "R": Viseme(Mouth(0.24, 0.15, -0.3, 0.5, 0.1, tongue=0.4), 1.0, 0.3),
    "W": Viseme(Mouth(0.1, 0.1, -0.5, 1.0), 1.8, 0.8),
    "J": Viseme(Mouth(0.24, 0.12, 0.6, lift=0.3, tongue=0.4), 0.8),
    "I": Viseme(Mouth(0.32, 0.15, 0.95, lift=0.5, tongue=0.3), 1.1),
    "IH": Viseme(Mouth(0.38, 0.25, 0.55, lift=0.3, tongue=0.2)),
    "E": Viseme(Mouth(0.56, 0.45, 0.5, lift=0.2)),
    "A": Viseme(Mouth(0.95, 0.95, 0.1, lift=0.1), 1.2),
    "UH": Viseme(Mouth(0.7, 0.65, 0.1, lift=0.05)),
    "SCHWA": Viseme(Mouth(0.4, 0.3, 0.1, lift=0.05), 0.7),
    "O": Viseme(Mouth(0.66, 0.62, -0.2, 0.75), 1.3),
    "U": Viseme(Mouth(0.28, 0.2, -0.4, 1.0), 1.4),
    "ER": Viseme(Mouth(0.36, 0.25, -0.2, 0.45, tongue=0.3)),
}

CONSONANTS = {
    **dict.fromkeys(("p", "b", "m", "m-"), "M"),
    **dict.fromkeys(("f", "v"), "F"),
    **dict.fromkeys(("T", "D"), "TH"),
    **dict.fromkeys(("t", "d", "n", "n-", "t#", "t2", "t[", "d#", "n^", "*"), "T"),
    **dict.fromkeys(("l", "l#", "L", "l^"), "L"),
    **dict.fromkeys(("s", "z", "s;", "z;"), "S"),
    **dict.fromkeys(("S", "Z", "tS", "dZ", "tS;"), "SH"),
    **dict.fromkeys(("k", "g", "N", "x", "?", "k#"), "K"),
    **dict.fromkeys(("h", "h#"), "H"),
    **dict.fromkeys(("r", "r-", "r/", "R"), "R"),
    **dict.fromkeys(("w", "w#"), "W"),
    "j": "J",
}

VOWELS = {
    **dict.fromkeys(("i", "i:", "i2"), ("I",)),
    **dict.fromkeys(("I", "I2", "I#", "I2#"), ("IH",)),
    **dict.fromkeys(("E", "e", "E#"), ("E",)),
    **dict.fromkeys(("a", "a#", "aa", "&", "A:", "A", "0#"), ("A",)),
    **dict.fromkeys(("V", "a2", "A#"), ("UH",)),
    **dict.fromkeys(("@", "@2", "@5", "@#"), ("SCHWA",)),
    **dict.fromkeys(("0", "0:"), ("A",)),
    **dict.fromkeys(("O", "O:", "o", "o:", "O2"), ("O",)),
    **dict.fromkeys(("u", "u:", "U", "U#"), ("U",)),
    **dict.fromkeys(("3", "3:", "VR"), ("ER",)),
    **dict.fromkeys(("eI", "e:"), ("E", "I")),
    **dict.fromkeys(("aI", "aI2"), ("A", "IH")),
    **dict.fromkeys(("aI@", "aI3"), ("A", "IH", "ER")),
    **dict.fromkeys(("aU", "aU@"), ("A", "U")),
    **dict.fromkeys(("oU", "@U", "o#"), ("O", "U")),
    **dict.fromkeys(("OI",), ("O", "IH")),
    **dict.fromkeys(("e@", "e@3"), ("E", "ER")),
    **dict.fromkeys(("i@", "i@3", "I@"), ("I", "ER")),
    **dict.fromkeys(("U@", "u@"), ("U", "ER")),
    **dict.fromkeys(("O@", "o@", "O3"), ("O", "ER")),
    **dict.fromkeys(("A@", "A3"), ("A", "ER")),
    "@L": ("SCHWA", "L"),
}


def of_phoneme(name: str) -> tuple[tuple[str, ...], bool]:
    """The visemes of an eSpeak phoneme, one after another, and whether it is a stressed one.

    A name that is not known counts as what its first letter does, or as a neutral vowel.
    """
    plain = name.lstrip("',%=|^")
    if not plain or plain.startswith("_"):
        return (REST,), False
    stressed = name.startswith("'")
    for key in (plain, plain[:2], plain[0]):
        if key in CONSONANTS:
            return (CONSONANTS[key],), stressed
        if key in VOWELS:
            return VOWELS[key], stressed
    return ("SCHWA",), stressed
