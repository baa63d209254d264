"""What a store has to steer by: images with one caption each, and the concepts that enough of them carry."""

from collections.abc import Sequence

import pandas as pd

from xsae.evaluation.steering import HeldOut, carriers, steerable
from xsae.methods import Pairs

LEAST = 20  # rows that carry a concept; fewer, a hundredth of all, where there are few


def first_captions(store: Pairs, split: str) -> pd.DataFrame:
    """The pairs of a split with the first caption of each image alone, in the images' order."""
    return store.split(split).drop_duplicates("image").sort_values("image")


def concepts_of(pairs: Sequence[pd.DataFrame], kinds: Sequence[str]) -> list[str]:
    """The concepts of some `kinds`, sorted, that enough rows carry on either side of all of these pairs.

    pairs: with `concepts`, what an image holds, and `mentions`, what its caption names; a concept is `<kind>:<name>`.
    """
    labels = [table[side] for table in pairs for side in ("concepts", "mentions")]
    least = min(LEAST, min(map(len, labels)) // 100)
    return [concept for concept in steerable(*labels, least=least) if concept.split(":")[0] in kinds]


def held_out(store: Pairs, concepts: Sequence[str]) -> HeldOut:
    """What is steered and ranked of a store: its held-out images, and the first caption of each."""
    test = first_captions(store, "test")
    return HeldOut(
        images=store["image"][test["image"]],
        captions=store["text"][test["text"]],
        shown=carriers(test["concepts"], concepts),
        named=carriers(test["mentions"], concepts),
    )
