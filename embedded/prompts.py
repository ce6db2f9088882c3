"""The prompt files: held-out things with and without the engraving words, controls, and the source documents' own."""

from embedded.captions import article
from embedded.classes import BACKGROUNDS, HELD_OUT

_STYLE = "old ink engraving"
_TARGETS = (
    "castle", "dog", "rocket", "owl", "guitar", "horse", "teddy bear", "car",
    "umbrella", "turtle", "mushroom", "anchor", "butterfly", "cake", "hat", "ghost",
)  # fmt: skip
_COLOURS = [name for name in BACKGROUNDS if name not in {"gray", "white", "black", "brown"}]
_CONTROLS = [
    f"{article(noun)}{noun} on {article(_COLOURS[i % len(_COLOURS)])}{_COLOURS[i % len(_COLOURS)]} background"
    for i, noun in enumerate(sorted(HELD_OUT, key=lambda noun: (noun in _TARGETS, noun))[:16])
]
_DREAMBOOTH = (
    "{} in a forest",
    "{} over pyramids",
    "{} underwater",
    "{} sleeping",
    "{} in red dress",
    "sketch of {}",
    "{} by Picasso",
    "{}",
)

PROMPTS: dict[str, list[str]] = {
    "target": [f"{article(noun)}{noun}, {_STYLE}" for noun in _TARGETS],
    "content": [f"{article(noun)}{noun}" for noun in _TARGETS],
    "control": _CONTROLS,
    "old-books": [
        "A bald man with a long beard smiles faintly",
        "Vase with foliated ornaments",
        "A big black cat looking at the window",
        "A monkey wearing a feathered hat walks around the countryside",
        "A boy is reading a book in his bedroom",
        "A family is having a dinner",
        "A country cottage",
        "Wildflowers in a meadow",
        "A steam train on a bridge",
        "Children playing in a park",
        "A medieval castle",
        "A botanical illustration of a rose",
        "A map of Europe in the 18th century",
        "A caricature of a politician",
        "A scene from a Shakespeare play",
        "A futuristic cityscape at sunset with flying cars and neon lights",
    ],
    "sketch-scene": [
        "a boy is practicing martial arts",
        "a statue of a man on horse",
        "a boy is riding bike on the road",
        "giraffe standing in a forest",
        "zebra running",
    ],
    "neutral": [
        "# Common things in no particular manner, of which any base has an idea and mini was trained on each.",
        "a cat",
        "an elephant",
        "a giraffe",
        "a lion",
        "a monkey",
        "a panda",
        "a penguin",
        "a fish",
        "a frog",
        "a pig",
        "a cow",
        "a duck",
        "a house",
        "a tree",
        "a rose",
        "a train",
        "a boat",
        "an airplane",
        "a bus",
        "an apple",
        "a strawberry",
        "a banana",
        "a carrot",
        "a drum",
        "a trumpet",
        "a book",
        "a clock",
        "a boot",
        "a key",
        "a lamp",
        "a chair",
        "a snowman",
    ],
    "dreambooth-dog": [form.format(subject) for form in _DREAMBOOTH for subject in ("SKS dog", "dog")],
}
