"""What holds on the world of our own must hold on embeddings that nobody here made."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from scipy.stats import binomtest

from xsae.alignments import Hungarian, Partners
from xsae.data.own import import_file
from xsae.evaluation import choice
from xsae.evaluation.aligned import recall_both_ways
from xsae.evaluation.retrieval import chance, recall
from xsae.evaluation.variants import firing_rates
from xsae.methods import Method, pair_codes, posthoc
from xsae.run import pool
from xsae.run.checkpoints import load
from xsae.run.config import load_config
from xsae.run.jobs import choose, train_on_store
from xsae.run.paths import ROOT
from xsae.run.work import training

COCO = ROOT.parent / "shared/data/coco_val2017_clip_vitb16_500pairs.npz"
SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    if not COCO.is_file():
        pytest.skip("the shared CLIP embeddings are not on this machine")
    return import_file(tmp_path_factory.mktemp("real") / "store", COCO, held_out=0.2, seed=0)


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    """(name, seed) -> a method, trained as `./run_all.sh laptop --embeddings` does; `published` is shared from 0."""
    run, folder = load_config("laptop", str(COCO)), tmp_path_factory.mktemp("saes")
    known = {name: value for name, value in run.model_dump().items() if name not in run.auto}
    recipe = training({"latents": 0} | known, bias_start=run.bias_starts[0])
    axes = choice.axes(recipe, run.auto, len(store.split("train")), store.dim, len(store.modalities))
    table = choice.search(
        recipe, axes, lambda wanted: pool.run(choose, [(store.path, *trial) for trial in wanted], "choose")
    )
    last = table[table["chosen"]].iloc[-1]
    recipe = replace(recipe, latents=int(last["latents"]), k=int(last["k"]))
    jobs = {
        (name, seed): (store.path, folder / f"{name}{seed}", method, replace(recipe, bias_start=start), seed)
        for name, method, start in (("separated", "separated", "mean"), ("published", "shared", "zero"))
        for seed in SEEDS
    }
    pool.run(train_on_store, list(jobs.values()), "train")
    found = {name: Method(load(job[1], store.fingerprint)[0]) for name, job in jobs.items()}
    for seed in SEEDS:
        found["posthoc", seed] = posthoc(found["separated", seed].saes, pair_codes(found["separated", seed], store))
    return found


def hits(method: Method, store, k: int) -> dict[str, int]:
    x = {m: store[m][store.rows(m, "test")] for m in store.modalities}
    codes, ids = {m: method.transform(m, matrix) for m, matrix in x.items()}, {m: store.groups(m, "test") for m in x}
    return {
        f"{a}_to_{b}": round(len(ids[a]) * recall(codes[a], codes[b], ids[a], ids[b])[f"R@{k}"])
        for a, b in permutations(x, 2)
    }


def test_posthoc_finds_partners_far_above_chance_and_above_shared_as_published(store, trained):
    groups = {m: store.groups(m, "test") for m in store.modalities}
    n = len(groups["image"])
    for seed in SEEDS:
        ours, theirs = (hits(trained[name, seed], store, 10) for name in ("posthoc", "published"))
        for direction, found in ours.items():
            luck = chance(*(groups[m] for m in direction.split("_to_")))["R@10"]
            assert binomtest(found, n, luck, alternative="greater").pvalue < 1e-6, (seed, direction, found)
            assert found > theirs[direction], (seed, direction, found, theirs)


def test_at_most_one_latent_a_side_never_sleeps(store, trained):
    for seed in SEEDS:
        for modality, codes in pair_codes(trained["separated", seed], store).items():
            assert np.count_nonzero(firing_rates(codes) > 0.5) <= 1, (seed, modality)


def test_without_alignment_separated_is_at_chance(store, trained):
    found = sum(sum(hits(trained["separated", seed], store, 1).values()) for seed in SEEDS)
    n = 2 * len(SEEDS) * len(store.groups("image", "test"))
    assert binomtest(found, n, 1 / len(store.groups("image", "test")), alternative="greater").pvalue > 0.01


def test_four_partners_retrieve_better_than_one_in_both_directions(store, trained):
    found = dict.fromkeys(permutations(store.modalities), 0)
    for seed in SEEDS:
        method = trained["separated", seed]
        train = pair_codes(method, store)
        means = {m: np.asarray(codes.mean(axis=0)) for m, codes in train.items()}
        test = {m: method.transform(m, store[m][store.rows(m, "test")]) for m in store.modalities}
        ids = {m: store.groups(m, "test") for m in test}
        few, one = (
            recall_both_ways(alignment.fit(train["image"], train["text"]), means, test, ids)
            for alignment in (Partners(), Hungarian())
        )
        for a, b in found:
            found[a, b] += few[f"{a}_to_{b}"]["R@1"] - one[f"{a}_to_{b}"]["R@1"]
    assert min(found.values()) > 0, found
