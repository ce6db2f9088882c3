"""The things `mini` can draw: nouns with their emoji, the twelve backgrounds and the tints.

    from embedded.classes import THINGS, HELD_OUT
    THINGS[0].noun   # 'dog'

The list only ever grows at its end: class numbers in judges and stored corpora stay valid.
"""

from typing import NamedTuple


class Thing(NamedTuple):
    """One class: the noun people type, its glyph, other words for it, and whether mirroring keeps it right."""

    noun: str
    glyph: str
    synonyms: tuple[str, ...] = ()
    flips: bool = True


_ROWS: tuple[tuple[str, str, str], ...] = (
    ("dog", "\U0001f436", "puppy, hound"),
    ("cat", "\U0001f431", "kitten"),
    ("horse", "\U0001f40e", "pony"),
    ("elephant", "\U0001f418", ""),
    ("giraffe", "\U0001f992", ""),
    ("zebra", "\U0001f993", ""),
    ("lion", "\U0001f981", ""),
    ("monkey", "\U0001f412", "ape"),
    ("panda", "\U0001f43c", "panda bear"),
    ("penguin", "\U0001f427", ""),
    ("owl", "\U0001f989", ""),
    ("fish", "\U0001f420", "tropical fish"),
    ("butterfly", "\U0001f98b", ""),
    ("unicorn", "\U0001f984", ""),
    ("frog", "\U0001f438", "toad"),
    ("rabbit", "\U0001f430", "bunny, hare"),
    ("pig", "\U0001f416", "swine"),
    ("cow", "\U0001f404", ""),
    ("duck", "\U0001f986", ""),
    ("turtle", "\U0001f422", "tortoise"),
    ("snail", "\U0001f40c", ""),
    ("bee", "\U0001f41d", "honeybee"),
    ("octopus", "\U0001f419", ""),
    ("whale", "\U0001f433", ""),
    ("crab", "\U0001f980", ""),
    ("castle", "\U0001f3f0", "fortress"),
    ("house", "\U0001f3e0", "cottage, home"),
    ("tree", "\U0001f333", "oak"),
    ("palm tree", "\U0001f334", "palm"),
    ("cactus", "\U0001f335", ""),
    ("rose", "\U0001f339", ""),
    ("sunflower", "\U0001f33b", ""),
    ("mushroom", "\U0001f344", "toadstool"),
    ("car", "\U0001f697", "automobile"),
    ("train", "\U0001f682", "steam train, locomotive"),
    ("boat", "\u26f5", "sailboat, ship"),
    ("rocket", "\U0001f680", "spaceship"),
    ("airplane", "\u2708", "plane, aeroplane"),
    ("bicycle", "\U0001f6b2", "bike"),
    ("bus", "\U0001f68c", ""),
    ("pizza", "\U0001f355", "pizza slice"),
    ("apple", "\U0001f34e", ""),
    ("cake", "\U0001f382", "birthday cake"),
    ("strawberry", "\U0001f353", ""),
    ("banana", "\U0001f34c", ""),
    ("pineapple", "\U0001f34d", ""),
    ("hamburger", "\U0001f354", "burger"),
    ("ice cream", "\U0001f366", "soft ice"),
    ("carrot", "\U0001f955", ""),
    ("cherries", "\U0001f352", "cherry"),
    ("guitar", "\U0001f3b8", "electric guitar"),
    ("drum", "\U0001f941", ""),
    ("trumpet", "\U0001f3ba", ""),
    ("book", "\U0001f4d6", "open book"),
    ("umbrella", "\u2602", "parasol"),
    ("clock", "\u23f0", "alarm clock"),
    ("crown", "\U0001f451", ""),
    ("hat", "\U0001f3a9", "top hat"),
    ("boot", "\U0001f462", ""),
    ("glasses", "\U0001f453", "spectacles"),
    ("key", "\U0001f511", ""),
    ("lamp", "\U0001f4a1", "light bulb"),
    ("teapot", "\U0001fad6", ""),
    ("hammer", "\U0001f528", ""),
    ("anchor", "\u2693", ""),
    ("bell", "\U0001f514", ""),
    ("balloon", "\U0001f388", ""),
    ("chair", "\U0001fa91", ""),
    ("vase", "\U0001f3fa", "amphora"),
    ("ghost", "\U0001f47b", ""),
    ("robot", "\U0001f916", "android"),
    ("skull", "\U0001f480", ""),
    ("teddy bear", "\U0001f9f8", "teddy"),
    ("snowman", "\u26c4", ""),
    ("heart", "\u2764", ""),
    ("star", "\u2b50", ""),
    ("moon", "\U0001f319", "crescent"),
    ("boy", "\U0001f466", "child"),
    ("woman", "\U0001f469", "lady"),
    ("man", "\U0001f9d4", "bearded man"),
    ("bird", "\U0001f426", ""),
    ("fox", "\U0001f98a", ""),
    ("mouse", "\U0001f42d", ""),
    ("dinosaur", "\U0001f995", "sauropod"),
    ("snake", "\U0001f40d", ""),
    ("spider", "\U0001f577", ""),
    ("shark", "\U0001f988", ""),
    ("tulip", "\U0001f337", ""),
    ("lemon", "\U0001f34b", ""),
    ("grapes", "\U0001f347", ""),
    ("watermelon", "\U0001f349", "slice of watermelon"),
    ("donut", "\U0001f369", "doughnut"),
    ("truck", "\U0001f69a", "lorry"),
    ("helicopter", "\U0001f681", ""),
    ("camera", "\U0001f4f7", ""),
    ("ball", "\u26bd", "football, soccer ball"),
    ("gift", "\U0001f381", "present"),
    ("diamond", "\U0001f48e", "gem"),
    ("sun", "\U0001f31e", ""),
    ("alien", "\U0001f47d", ""),
    ("pumpkin", "\U0001f383", "jack-o-lantern"),
    ("king", "\U0001f934", "prince"),
    ("girl", "\U0001f467", ""),
    ("smiling face", "\U0001f600", "smiley"),
)

# Mirroring would be wrong (letters, dials) or only adds work (these glyphs have one usual side).
_NEVER_FLIPPED = frozenset({"clock", "heart", "star", "moon", "book", "sun", "ball", "diamond", "smiling face"})

THINGS: tuple[Thing, ...] = tuple(
    Thing(noun, glyph, tuple(s for s in synonyms.split(", ") if s), noun not in _NEVER_FLIPPED)
    for noun, glyph, synonyms in _ROWS
)

# A third of the classes: they never occur in a style data set and so test transfer.
HELD_OUT: tuple[str, ...] = (
    "dog",
    "horse",
    "zebra",
    "owl",
    "butterfly",
    "rabbit",
    "turtle",
    "whale",
    "castle",
    "cactus",
    "sunflower",
    "mushroom",
    "car",
    "rocket",
    "bicycle",
    "pizza",
    "cake",
    "pineapple",
    "hamburger",
    "guitar",
    "umbrella",
    "hat",
    "anchor",
    "ghost",
    "robot",
    "teddy bear",
    "boy",
)

BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "red": (218, 38, 42),
    "orange": (250, 140, 26),
    "yellow": (250, 216, 46),
    "green": (46, 166, 74),
    "cyan": (58, 200, 214),
    "blue": (36, 92, 220),
    "purple": (136, 58, 186),
    "pink": (250, 140, 186),
    "brown": (128, 80, 46),
    "gray": (140, 140, 144),
    "black": (18, 18, 22),
    "white": (246, 246, 248),
}

TINTS: dict[str, tuple[int, int, int]] = {
    "red": (235, 50, 50),
    "yellow": (255, 220, 50),
    "green": (60, 190, 80),
    "blue": (50, 110, 240),
    "purple": (160, 80, 220),
    "pink": (255, 130, 190),
}
