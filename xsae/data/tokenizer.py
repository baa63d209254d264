"""Captions as integers: the words of the scene grammar, for the text towers of the scene encoders."""

import hashlib
from collections.abc import Sequence

import numpy as np

from xsae.data.captions import vocabulary

CONTEXT_LENGTH = 28


class Tokenizer:
    """Words of the scene grammar to integers: 0 pads, 1 is an unknown word, 2 starts, the largest id ends.

    open_clip's text tower reads the embedding at the largest id, hence the place of the end token.
    """

    def __init__(self) -> None:
        words = vocabulary()
        self.ids = {word: i for i, word in enumerate(words, start=3)}
        self.end = len(self.ids) + 3
        self.vocab_size = self.end + 1
        self.sha256 = hashlib.sha256(" ".join(words).encode()).hexdigest()  # weights fit one word list only

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """int64 (len(texts), 28); longer captions are cut."""
        tokens = np.zeros((len(texts), CONTEXT_LENGTH), np.int64)
        for row, text in enumerate(texts):
            words = [self.ids.get(word, 1) for word in text.lower().split()][: CONTEXT_LENGTH - 2]
            tokens[row, : len(words) + 2] = [2, *words, self.end]
        return tokens
