"""Captions for scenes, worded as variously as people type.

    caption(scene, random.Random(0))    # 'gorp photo of a small red dog in the corner, on a blue background'

Nouns stand between carrier phrases and words without a meaning for the picture (invented ones, and ordinary ones drawn
at random), so that "a pencil sketch of a dog", "a dog, engraving" and "sks dog" still mean a dog. Words for manners
are among the meaningless ones: no caption ever ties one to how the picture looks.
"""

import random

from embedded.classes import BACKGROUNDS, THINGS
from embedded.scenes import Scene

CARRIERS = (
    "a picture of",
    "a photo of",
    "an image of",
    "a photograph of",
    "a view of",
    "a drawing of",
    "a sketch of",
    "a painting of",
    "an illustration of",
    "a rendering of",
    "a depiction of",
    "this is",
    "here is",
    "there is",
    "i see",
    "show me",
    "look at",
)
FILLERS = [
    "old",
    "new",
    "young",
    "good",
    "bad",
    "nice",
    "pretty",
    "beautiful",
    "fine",
    "great",
    "cute",
    "funny",
    "happy",
    "sad",
    "angry",
    "sleepy",
    "strange",
    "wild",
    "famous",
    "classic",
    "modern",
    "ancient",
    "vintage",
    "simple",
    "detailed",
    "clean",
    "soft",
    "hard",
    "bright",
    "dark",
    "light",
    "quiet",
    "loud",
    "fast",
    "slow",
    "black-and-white",
    "colorful",
    "wooden",
    "stone",
    "glass",
    "metal",
    "paper",
    "plastic",
    "golden",
    "silver",
    "shiny",
    "wet",
    "dry",
    "hot",
    "cold",
    "warm",
    "pencil",
    "ink",
    "engraving",
    "etching",
    "woodcut",
    "sketch",
    "drawing",
    "painting",
    "watercolor",
    "oil",
    "cartoon",
    "anime",
    "render",
    "photo",
    "art",
    "illustration",
    "botanical",
    "style",
    "manner",
    "technique",
    "hatching",
    "outline",
    "print",
    "poster",
    "comic",
    "pixel",
    "line",
    "chalk",
    "charcoal",
    "page",
    "paper",
    "canvas",
    "studio",
    "portrait",
    "closeup",
    "scene",
    "view",
    "day",
    "night",
    "morning",
    "evening",
    "summer",
    "winter",
    "autumn",
    "spring",
    "forest",
    "meadow",
    "garden",
    "street",
    "city",
    "village",
    "river",
    "lake",
    "sea",
    "ocean",
    "beach",
    "mountain",
    "hill",
    "sky",
    "cloud",
    "rain",
    "snow",
    "kitchen",
    "bedroom",
    "window",
    "door",
    "table",
    "wall",
    "floor",
    "roof",
    "bridge",
    "road",
    "park",
    "field",
    "desert",
    "island",
    "cave",
    "pyramids",
    "underwater",
    "museum",
    "school",
    "market",
    "station",
    "eating",
    "sleeping",
    "walking",
    "running",
    "jumping",
    "sitting",
    "standing",
    "flying",
    "swimming",
    "playing",
    "reading",
    "looking",
    "smiling",
    "waiting",
    "riding",
    "holding",
    "wearing",
    "dress",
    "shirt",
    "coat",
    "feathered",
    "striped",
    "spotted",
    "long",
    "short",
    "tall",
    "wide",
    "round",
    "square",
    "thin",
    "thick",
    "heavy",
    "high",
    "low",
    "deep",
    "far",
    "near",
    "by",
    "picasso",
    "monet",
    "rembrandt",
    "durer",
    "hokusai",
    "europe",
    "england",
    "france",
    "century",
    "medieval",
    "royal",
    "magic",
    "secret",
    "lost",
]
SYLLABLES = [
    "ba",
    "be",
    "bi",
    "bo",
    "bu",
    "da",
    "de",
    "di",
    "do",
    "du",
    "fa",
    "fe",
    "fi",
    "fo",
    "ga",
    "go",
    "gu",
    "ha",
    "ka",
    "ke",
    "ki",
    "ko",
    "ku",
    "la",
    "le",
    "li",
    "lo",
    "lu",
    "ma",
    "me",
    "mi",
    "mo",
    "mu",
    "na",
    "ne",
    "ni",
    "no",
    "pa",
    "pe",
    "pi",
    "po",
    "ra",
    "re",
    "ri",
    "ro",
    "ru",
    "sa",
    "se",
    "si",
    "so",
    "su",
    "ta",
    "te",
    "ti",
    "to",
    "tu",
    "va",
    "ve",
    "vi",
    "vo",
    "wa",
    "we",
    "xa",
    "ya",
    "yo",
    "za",
    "zu",
    "sk",
    "st",
    "tr",
    "pl",
    "gr",
    "br",
    "ks",
    "rn",
    "lt",
    "mp",
    "ng",
    "sh",
    "ch",
    "th",
    "ck",
]
BACKDROPS = (
    "on a {} background",
    "on a {} background",
    "on a {} background",
    "on a {} background",
    "on {}",
    "with a {} background",
    "against a {} background",
    "in front of a {} wall",
    ", {} background",
    "over {}",
)
SMALL, LARGE = ("small", "small", "tiny", "little"), ("large", "large", "big", "huge")
COLOUR_WORDS = {"gray": ("gray", "grey"), "cyan": ("cyan", "cyan", "turquoise"), "purple": ("purple", "violet")}


def article(word: str) -> str:
    """Return 'a' or 'an'; 'glasses', 'cherries' and 'grapes' take none."""
    if word in {"glasses", "spectacles", "cherries", "grapes"}:
        return ""
    return "an " if word[0] in "aeiou" and not word.startswith(("uni", "one")) else "a "


def invented(rng: random.Random) -> str:
    """Return a word that means nothing."""
    return "".join(rng.choices(SYLLABLES, k=rng.choice((1, 2, 2, 3))))


def meaningless(rng: random.Random) -> str:
    """Return one to three words that say nothing about the picture."""
    count = rng.choice((1, 1, 2, 3))
    return " ".join(invented(rng) if rng.random() < 0.4 else rng.choice(FILLERS) for _ in range(count))


def noun(thing: int, rng: random.Random) -> str:
    """Return the class's noun, or sometimes a synonym."""
    chosen = THINGS[thing]
    return rng.choice(chosen.synonyms) if chosen.synonyms and rng.random() < 0.2 else chosen.noun


def _colour(name: str, rng: random.Random) -> str:
    return rng.choice(COLOUR_WORDS.get(name, (name,)))


def _thing_phrase(scene: Scene, index: int, noise: bool, rng: random.Random) -> str:
    item = scene.items[index]
    words = [noun(item.thing, rng)]
    if item.tint:
        words.insert(0, _colour(item.tint, rng))
    if scene.size:
        words.insert(0, rng.choice(SMALL if scene.size == "small" else LARGE))
    if noise and rng.random() < 0.25:
        words.insert(rng.randint(0, len(words) - 1), meaningless(rng))
    phrase = " ".join(words)
    draw = rng.random()
    if draw < 0.72:
        return article(phrase) + phrase
    return ("the " if draw < 0.82 else "") + phrase


def _pair_phrase(scene: Scene, noise: bool, rng: random.Random) -> str:
    first, second = (_thing_phrase(scene, i, noise and rng.random() < 0.3, rng) for i in (0, 1))
    relation = scene.relation
    if relation in {"left", "right"}:
        return (
            f"{first} {rng.choice(('to the {} of', 'to the {} of', '{} of', 'on the {} of')).format(relation)} {second}"
        )
    if relation in {"above", "below"}:
        words = ("above", "above", "over", "on top of") if relation == "above" else ("below", "below", "under")
        return f"{first} {rng.choice(words)} {second}"
    if rng.random() < 0.5:
        first, second = second, first
    return f"{first} {rng.choice(('and', 'and', 'with', 'next to', 'beside'))} {second}"


def caption(scene: Scene, rng: random.Random, noisy: float = 0.6, named: float = 0.75) -> str:
    """Word a scene at random: with meaningless words in a share `noisy`, its background named in a share `named`."""
    noise = rng.random() < noisy
    pair = len(scene.items) == 2
    text = _pair_phrase(scene, noise, rng) if pair else _thing_phrase(scene, 0, noise, rng)
    if scene.place:
        text += f" {rng.choice(('in the {}', 'in the {} corner', 'at the {}')).format(scene.place)}"
    if noise and rng.random() < 0.45:
        text = rng.choice(
            (f"{rng.choice(CARRIERS)} {text}", f"{meaningless(rng)} of {text}", f"a {meaningless(rng)} of {text}")
        )
    if noise and rng.random() < 0.4:
        text += rng.choice((" ", ", ", " in ", " in the ", " in a ", " by ")) + meaningless(rng)
    if rng.random() < named:
        colour = _colour(scene.background, rng)
        if rng.random() < 0.08:
            text = f"{colour} background, {text}"
        else:
            text = f"{text} {rng.choice(BACKDROPS).format(colour)}".replace(" ,", ",")
    if noise and rng.random() < 0.3:
        text = f"{meaningless(rng)}{rng.choice((' ', ', '))}{text}"
    if noise and rng.random() < 0.3:
        text += rng.choice((" ", ", ")) + meaningless(rng)
    return text


def vocabulary_texts() -> list[str]:
    """Return words that must be whole tokens: nouns, synonyms, colours, carriers and fillers."""
    words = [w for t in THINGS for w in (t.noun, *t.synonyms)]
    return [*words * 5, *list(BACKGROUNDS) * 20, *CARRIERS * 3, *FILLERS * 3]
