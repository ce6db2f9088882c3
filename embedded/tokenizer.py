"""A CLIPTokenizer of our own: byte-pair encoding learnt from the captions, every byte included, 77 positions.

python -m embedded.tokenizer      # writes scratch/tokenizer/
"""

import random
import shutil
from typing import TYPE_CHECKING

from embedded.captions import caption, vocabulary_texts
from embedded.paths import ASSETS, WORK
from embedded.scenes import random_scene

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

VOCABULARY = 1536
LENGTH = 77


def make() -> None:
    """Learn the merges and save the tokenizer."""
    from tokenizers import Tokenizer, models, trainers
    from transformers import CLIPTokenizer

    backend = CLIPTokenizer()._tokenizer  # noqa: SLF001 - the only way to CLIP's own normaliser and splitter
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer, learner.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    rng = random.Random(0)
    texts = [caption(random_scene(rng), rng) for _ in range(20_000)] + vocabulary_texts() * 20
    alphabet = byte_symbols()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 2, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    merges = [tuple(m) for m in _merges(learner)]
    symbols = [*alphabet, *(s + "</w>" for s in alphabet), *("".join(m) for m in merges)]
    words = list(dict.fromkeys(symbols))[: VOCABULARY - 2]
    merges = [m for m in merges if "".join(m) in set(words)]
    vocabulary = {w: i for i, w in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)
    tokenizer.save_pretrained(WORK / "tokenizer")


def byte_symbols() -> list[str]:
    """Return the printable stand-ins that byte-level tokenizers use for the 256 bytes."""
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def _merges(learner: object) -> list[list[str]]:
    import json

    return json.loads(learner.to_str())["model"]["merges"]  # type: ignore[attr-defined,no-any-return]


def keep_shipped() -> None:
    """Use the tokenizer that ships, not a new one: nets that go on from shipped weights know its numbers."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (WORK / "tokenizer").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ASSETS / "mini" / "tokenizer" / name, WORK / "tokenizer" / name)


def load() -> "CLIPTokenizer":
    """Return the tokenizer, learning it first if need be."""
    from transformers import CLIPTokenizer

    if not (WORK / "tokenizer" / "tokenizer.json").exists():
        make()
    return CLIPTokenizer.from_pretrained(WORK / "tokenizer")


if __name__ == "__main__":
    make()
