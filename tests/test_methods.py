"""The contract that alignment, retrieval, zero-shot and steering rely on."""

from dataclasses import replace

import numpy as np
import pytest

from xsae.alignment import Alignment
from xsae.data.synthetic import generate
from xsae.evaluation.recovery import recovery
from xsae.evaluation.retrieval import recall
from xsae.methods import METHODS, Method, posthoc, train_saes
from xsae.run.checkpoints import fingerprint, train_or_load
from xsae.run.jobs import load_method
from xsae.run.paths import RunPaths
from xsae.training import TrainingConfig


def loaded(paths, method):
    return load_method(paths, backbone="b", method=method, bias_start="mean", seed=1, data_hash="hash")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run with `separated` and `shared` trained and an alignment fitted, on paired random embeddings."""
    monkeypatch.setenv("XSAE_ROOT", str(tmp_path))
    paths, rng = RunPaths("own"), np.random.default_rng(0)
    concepts = rng.standard_normal((300, 8)) * (rng.random((300, 8)) < 0.3)
    x = {m: (concepts @ rng.standard_normal((8, 6))).astype(np.float32) + 1e-3 for m in ("image", "text")}
    rows, config = dict.fromkeys(x, np.arange(300)), TrainingConfig(latents=32, k=2, epochs=20, batch_size=64)
    for method in ("separated", "shared"):
        train_or_load(paths.checkpoint("b", method, "mean", 1), method, x, rows, config, 1, "hash")
    saes, _ = train_or_load(paths.checkpoint("b", "separated", "mean", 1), "separated", x, rows, config, 1, "hash")
    for modality, alignment in posthoc(saes, {m: saes[m].transform(x[m]) for m in x}).alignments.items():
        of = fingerprint(paths.checkpoint("b", "separated", "mean", 1))
        alignment.save(paths.alignment("b", "mean", 1, modality), fitted_on=of)
    return paths, x


def test_posthoc_is_separated_with_the_second_modality_in_the_order_of_the_first(run):
    paths, x = run
    aligned, separated = (loaded(paths, method) for method in ("posthoc", "separated"))
    order = aligned.alignments["text"].permutation_
    assert (order != np.arange(16)).any()
    assert (aligned.transform("image", x["image"]) != separated.transform("image", x["image"])).nnz == 0
    np.testing.assert_array_equal(aligned.directions("image"), separated.directions("image"))
    codes = separated.transform("text", x["text"]).toarray()
    np.testing.assert_array_equal(aligned.transform("text", x["text"]).toarray(), codes[:, order])
    np.testing.assert_array_equal(aligned.directions("text"), separated.directions("text")[order])


@pytest.mark.parametrize(
    "other",
    [{"config": {"epochs": 19}}, {"config": {"weight_decay": 0.1}}, {"seed": 2}, {"data": 1.5}],
    ids=["settings", "weight", "seed", "data"],
)
def test_an_alignment_left_from_other_autoencoders_is_refused(run, other):
    paths, x = run
    folder, file = paths.checkpoint("b", "separated", "mean", 1), paths.alignment("b", "mean", 1, "text")
    config = replace(TrainingConfig(latents=32, k=2, epochs=20, batch_size=64), **other.get("config", {}))
    x = {m: matrix + other.get("data", 0) * np.eye(6, dtype=np.float32)[0] for m, matrix in x.items()}
    data_hash = "other" if "data" in other else "hash"
    before = fingerprint(folder)
    rows = dict.fromkeys(x, np.arange(300))
    train_or_load(folder, "separated", x, rows, config, other.get("seed", 1), data_hash)
    message = f"text.safetensors: fitted on other autoencoders .{before[:12]}. than those it is to align"
    with pytest.raises(ValueError, match=message) as error:
        load_method(paths, backbone="b", method="posthoc", bias_start="mean", seed=1, data_hash=data_hash)
    assert str(file) in str(error.value) and "\n" not in str(error.value)
    load_method(paths, backbone="b", method="separated", bias_start="mean", seed=1, data_hash=data_hash)


def test_an_alignment_that_does_not_say_of_which_autoencoders_is_refused(run):
    paths, _ = run
    file = paths.alignment("b", "mean", 1, "text")
    Alignment.load(file, fingerprint(paths.checkpoint("b", "separated", "mean", 1))).save(file)
    with pytest.raises(ValueError, match="fitted on other autoencoders .nothing that."):
        loaded(paths, "posthoc")


def test_alignment_changes_no_reconstruction_by_a_single_bit(run):
    paths, x = run
    aligned, separated = (loaded(paths, method) for method in ("posthoc", "separated"))
    for modality, embeddings in x.items():
        ours, theirs = (m.saes[modality].inverse_transform(m.saes[modality].transform(embeddings)) for m in
                        (aligned, separated))  # fmt: skip
        assert ours.tobytes() == theirs.tobytes()


def test_shared_has_one_order_because_it_has_one_autoencoder(run):
    shared = loaded(run[0], "shared")
    assert shared.saes["image"] is shared.saes["text"] and not shared.alignments


def test_what_is_not_there_is_named_with_what_makes_it(run):
    assert tuple(METHODS) == (
        "shared", "shared_bias", "iso_energy", "group_sparse", "masked_group_sparse", "shared_encoder", "vl_sae",
        "sparc", "separated", "posthoc",
    )  # fmt: skip
    with pytest.raises(FileNotFoundError, match="notebook 02_sae_training makes them"):
        loaded(run[0], "iso_energy")
    with pytest.raises(FileNotFoundError, match="03_alignment"):
        run[0].alignment("b", "mean", 1, "text").unlink()
        loaded(run[0], "posthoc")


@pytest.fixture(scope="module")
def three():
    """A theory world of three modalities, and the autoencoders of each, trained apart."""
    names = ("picture", "sentence", "sound")
    sizes = dict(dim=32, n_shared=24, n_own=dict.fromkeys(names, 8), n_train=6000, n_test=500)
    data = generate(0.5, 1, **sizes, activation=0.06, noise=0.02, max_interference=0.6)
    config = TrainingConfig(latents=3 * 64, k=4, epochs=20, batch_size=128, learning_rate=2e-3, decay=False)
    saes, _ = train_saes("separated", data.train.embeddings, data.train.rows, config, seed=1)
    return data, saes, {m: saes[m].transform(x) for m, x in data.train.embeddings.items()}


def best(concepts, directions):
    return (concepts @ directions.T).argmax(1)


def test_three_modalities_meet_in_one_order_of_latents_and_shuffled_partners_do_not(three):
    data, saes, codes = three
    reference, *others = saes
    aligned = posthoc(saes, codes)
    order = np.random.default_rng(0).permutation(len(data.train.rows[reference]))
    shuffled = posthoc(saes, {m: rows if m == reference else rows[order] for m, rows in codes.items()})
    for method, least, most in ((aligned, 0.8, 1), (shuffled, 0, 0.2), (Method(saes), 0, 0.2)):
        where = best(data.shared[reference], method.directions(reference))
        agree = np.all([where == best(data.shared[m], method.directions(m)) for m in others], axis=0)
        assert least <= agree.mean() <= most


def test_two_modalities_that_were_never_aligned_to_each_other_find_each_other_through_the_reference(three):
    data, saes, codes = three
    _, *others = saes
    ids = np.arange(len(data.test.rows["sound"]))
    found = {}
    for name, method in (("aligned", posthoc(saes, codes)), ("unaligned", Method(saes))):
        queries, gallery = (method.transform(m, data.test.embeddings[m]) for m in others)
        found[name] = recall(queries, gallery, ids, ids)["R@10"]
    assert found["aligned"] > 5 * max(found["unaligned"], 10 / len(ids))


def test_recovery_of_three_modalities_is_the_mean_over_their_pairs_with_the_first(three):
    data, saes, codes = three
    aligned, names = posthoc(saes, codes), list(saes)
    whole = recovery(aligned, data)
    parts = []
    for other in names[1:]:
        part = Method({m: saes[m] for m in (names[0], other)}, {other: aligned.alignments[other]})
        parts.append(recovery(part, data))
    for figure in ("CR", "ESim", "FSim"):
        assert whole[figure] == pytest.approx(np.mean([recovered[figure] for recovered in parts]))
    assert whole["CR"] > 0.8
