"""The prompt files about the embedded things: held-out ones with and without the engraving words, controls, others.

The source documents' own prompts lie beside them as they were written (``assets/prompts/*.yaml``).
"""

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

PROMPTS: dict[str, list[str]] = {
    "target": [f"{article(noun)}{noun}, {_STYLE}" for noun in _TARGETS],
    "content": [f"{article(noun)}{noun}" for noun in _TARGETS],
    "control": _CONTROLS,
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
}
