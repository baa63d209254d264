"""What a store has to steer by: images with one caption each, the concepts that enough of them carry, their latents."""

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from xsae.evaluation.concepts import concept_directions
from xsae.evaluation.steering import (
    HeldOut,
    best_partner,
    carriers,
    concept_latent,
    steer_concepts,
    steer_concepts_along,
    steerable,
)
from xsae.methods import Method, Pairs

PARTNER = "posthoc, best partner"  # our own variant: the image latent that correlates best

LEAST = 20  # rows that carry a concept; fewer, a hundredth of all, where there are few


def first_captions(store: Pairs, split: str) -> pd.DataFrame:
    """The pairs of a split with the first caption of each image alone, in the images' order."""
    return store.split(split).drop_duplicates("image").sort_values("image")


def concepts_of(pairs: Sequence[pd.DataFrame], kinds: Sequence[str], most: int) -> list[str]:
    """The concepts to steer by, sorted: of each kind the `most` that most captions name, of equal ones the first.

    Enough rows must carry a concept, on either side of all of these pairs.

    pairs: with `concepts`, what an image holds, and `mentions`, what its caption names; a concept is `<kind>:<name>`.
    """
    labels = [table[side] for table in pairs for side in ("concepts", "mentions")]
    least = min(LEAST, min(map(len, labels)) // 100)
    named = Counter(concept for table in pairs for mentions in table["mentions"] for concept in mentions)
    by_count = sorted(steerable(*labels, least=least), key=lambda concept: -named[concept])
    of_kinds = ([concept for concept in by_count if concept.startswith(f"{kind}:")] for kind in kinds)
    return sorted(concept for of_kind in of_kinds for concept in of_kind[:most])


def held_out(store: Pairs, concepts: Sequence[str]) -> HeldOut:
    """What is steered and ranked of a store: its held-out images, and the first caption of each."""
    test = first_captions(store, "test")
    return HeldOut(
        images=store["image"][test["image"]],
        captions=store["text"][test["text"]],
        shown=carriers(test["concepts"], concepts),
        named=carriers(test["mentions"], concepts),
    )


def steer_method(
    store: Pairs, method: Method, name: str, concepts: Sequence[str], alphas: Sequence[float], seed: int
) -> pd.DataFrame:
    """`steer_concepts` with the latents that a store's training captions choose; of `posthoc` also with best partners.

    Returns what that does, with `method`, which is `name` or `PARTNER`, and `latent`, the image latent that is pushed.
    """
    train, images, sae = first_captions(store, "train"), held_out(store, concepts), method.saes["image"]
    naming = carriers(train["mentions"], concepts)
    text = method.transform("text", store["text"][train["text"].to_numpy()])
    latents = {name: {concept: concept_latent(text, naming[concept], seed) for concept in concepts}}
    if name == "posthoc":
        image = method.transform("image", store["image"][train["image"].to_numpy()])
        latents[PARTNER] = {concept: best_partner(image, text, latent) for concept, latent in latents[name].items()}
    pushed = {"codes": method.transform("image", images.images), "dictionary": sae.directions}
    pushed |= {"bias": sae.decoder_bias.detach().numpy(), "held_out": images, "alphas": alphas, "seed": seed}
    tables = []
    for variant, chosen in latents.items():
        table = steer_concepts(latents=chosen, **pushed)
        tables.append(table.assign(method=variant, latent=table["concept"].map(chosen)))
    return pd.concat(tables, ignore_index=True)


def steer_by_labels(store: Pairs, concepts: Sequence[str], alphas: Sequence[float], seed: int) -> pd.DataFrame:
    """The ceiling: `steer_concepts_along` the directions that the labels of a store's training images give.

    All concepts are regressed together, so that none inherits another's direction; but a topic follows from its icons,
    and one regression cannot have both.
    """
    train = first_captions(store, "train")
    x, labels, directions = store["image"][train["image"].to_numpy()], train["concepts"].tolist(), {}
    for apart in ("icon", "topic"):
        known = [concept for concept in steerable(labels) if not concept.startswith(apart)]
        if known:
            found = dict(zip(known, concept_directions(x, labels, known), strict=True))
            directions |= {concept: found[concept] for concept in concepts if concept in found}
    directions = {concept: directions[concept] for concept in concepts}
    return steer_concepts_along(directions=directions, held_out=held_out(store, concepts), alphas=alphas, seed=seed)
