import subprocess
import sys

import numpy as np
import pytest

import xsae
from xsae.evaluation.retrieval import chance, retrieve
from xsae.training import TrainingConfig

SMALL = TrainingConfig(latents=64, k=2, epochs=30, batch_size=64, learning_rate=5e-3)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """200 pairs, each near one of 8 directions, which differ between the modalities."""
    rng = np.random.default_rng(0)
    concept, directions = rng.integers(0, 8, 200), rng.standard_normal((2, 8, 16))
    image, text = (each[concept] + 0.1 * rng.standard_normal((200, 16)) for each in directions)
    return xsae.from_arrays(tmp_path_factory.mktemp("face") / "store", image=image, text=text)


def test_the_package_imports_without_what_takes_seconds():
    code = "import sys, xsae; print({'torch', 'pandas', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
    assert all(hasattr(xsae, name) for name in xsae.__all__)
    with pytest.raises(AttributeError, match="'tran'"):
        _ = xsae.tran


def test_from_arrays_to_retrieval(store):
    method = xsae.train(store, "posthoc", SMALL)
    found = retrieve(method, store)
    ids = store.groups("image", "test")
    assert found["chance R@1"].tolist() == [chance(ids, ids, (1,))["R@1"]] * 2 == pytest.approx([1 / 40] * 2)
    assert (found["R@10"] > 0.6).all()  # about five held-out pairs of each concept
    alone = retrieve(xsae.train(store, "separated", SMALL), store)
    assert (alone["R@10"] < found["R@10"]).all()
    with pytest.raises(ValueError, match="method: 'joint' is unknown"):
        xsae.train(store, "joint")


def test_what_is_made_says_what_it_holds(store):
    method = xsae.train(store, "posthoc", SMALL)
    assert repr(store).endswith("image 200 x 16, text 200 x 16; 160 train pairs, 40 test pairs")
    assert repr(method.saes["text"]) == "SparseAutoencoder of d = 16, 32 latents, k = 2, topk"
    assert repr(method).startswith("Method of image, text, one each: SparseAutoencoder of d = 16, 32 latents")
    assert "text by Alignment of 32 latents, " in repr(method)
    assert repr(xsae.Alignment()) == "Alignment, not fitted"
    assert "one for all" in repr(xsae.train(store, "shared_bias", SMALL))


def test_a_method_comes_back_from_its_folder(store, tmp_path):
    method = xsae.train(store, "posthoc", SMALL)
    method.save_pretrained(tmp_path / "shared")
    again = xsae.Method.from_pretrained(tmp_path / "shared")
    x = store["text"][:20]
    assert (again.transform("text", x) != method.transform("text", x)).nnz == 0
    alone = xsae.SparseAutoencoder.from_pretrained(tmp_path / "shared" / "text")
    assert np.array_equal(alone.directions, method.saes["text"].directions)
    with pytest.raises(ValueError, match="config.json: format xsae.sae.1 expected"):
        xsae.SparseAutoencoder.from_pretrained(tmp_path / "shared")
