import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import ModelCard

from xsae.data.store import write_store
from xsae.disk import hub
from xsae.methods import Method, posthoc
from xsae.run.checkpoints import fingerprint, train_or_load
from xsae.run.jobs import load_method
from xsae.run.paths import RunPaths
from xsae.run.results import write_table
from xsae.sae import SAEConfig, SparseAutoencoder
from xsae.training import TrainingConfig


def loaded(paths, method, store):
    return load_method(paths, backbone="b", method=method, bias_start="mean", seed=1, data_hash=store.fingerprint)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run `own` with one backbone `b`, `separated` and `shared` trained, aligned, and a table of figures."""
    root = tmp_path_factory.mktemp("root")
    os.environ["XSAE_ROOT"], former = str(root), os.environ.get("XSAE_ROOT")
    paths, rng = RunPaths("own"), np.random.default_rng(0)
    x = {m: rng.standard_normal((200, 6)).astype(np.float32) for m in ("image", "text")}
    pairs = pd.DataFrame({"image": range(200), "text": range(200), "split": ["train"] * 150 + ["test"] * 50})
    store = write_store(paths.embeddings("b"), x, pairs, model="ViT-B-32:own", source="drawn at random")
    arrays = {m: store[m] for m in x}
    rows = {m: store.split("train")[m].to_numpy() for m in x}
    config = TrainingConfig(latents=32, k=2, epochs=5, batch_size=50)
    for method in ("separated", "shared"):
        saes, _ = train_or_load(
            paths.checkpoint("b", method, "mean", 1), method, arrays, rows, config, 1, store.fingerprint
        )
        if method == "separated":
            codes = {m: saes[m].transform(arrays[m][rows[m]]) for m in x}
            posthoc(saes, codes).alignments["text"].save(
                paths.alignment("b", "mean", 1, "text"), fitted_on=fingerprint(paths.checkpoint("b", method, "mean", 1))
            )
    about = {"backbone": "b", "method": "separated", "seed": 1, "modality": "image", "metric": "loss", "value": 0.125}
    about["bias_start"] = "mean"
    write_table("own", "reconstruction", pd.DataFrame([about]))
    yield paths, store, x
    os.environ.pop("XSAE_ROOT")
    if former:
        os.environ["XSAE_ROOT"] = former


def share(root, *arguments):
    environment = os.environ | {"XSAE_ROOT": str(root), "HF_HUB_OFFLINE": "1", "HF_TOKEN": "none"}
    command = [sys.executable, "-m", "xsae.run.sharing", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("method", ["posthoc", "separated", "shared"])
def test_what_was_shared_gives_the_same_codes_to_the_bit(run, tmp_path, method):
    paths, store, x = run
    original = loaded(paths, method, store)
    original.save_pretrained(tmp_path / "shared")
    again = Method.from_pretrained(str(tmp_path / "shared"))
    for modality, embeddings in x.items():
        ours, theirs = original.transform(modality, embeddings), again.transform(modality, embeddings)
        for part in ("data", "indices", "indptr"):
            assert getattr(ours, part).tobytes() == getattr(theirs, part).tobytes()
        assert original.directions(modality).tobytes() == again.directions(modality).tobytes()
    assert (again.saes["image"] is again.saes["text"]) == (method == "shared")


def test_one_autoencoder_is_shared_as_its_checkpoint_and_a_card_that_was_edited_stays(tmp_path):
    sae = SparseAutoencoder(SAEConfig(6, 16, 2), seed=3)
    sae.save_pretrained(tmp_path / "shared")
    (tmp_path / "shared" / "README.md").write_text("mine")
    sae.save_pretrained(tmp_path / "shared")
    assert {path.name for path in (tmp_path / "shared").iterdir()} == {"README.md", "config.json", "model.safetensors"}
    assert (tmp_path / "shared" / "README.md").read_text() == "mine"
    sae.save(tmp_path / "checkpoint")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "shared" / name).read_bytes() == (tmp_path / "checkpoint" / name).read_bytes()
    again = SparseAutoencoder.from_pretrained(str(tmp_path / "shared"))
    assert again.config == sae.config and again.directions.tobytes() == sae.directions.tobytes()


def test_an_altered_file_is_refused(run, tmp_path):
    paths, store, _ = run
    loaded(paths, "posthoc", store).save_pretrained(tmp_path / "shared")
    for name, message in (
        ("text/model.safetensors", "truncated or altered"),
        ("alignment/text.safetensors", "altered"),
    ):
        shutil.copytree(tmp_path / "shared", tmp_path / "harmed")
        file = tmp_path / "harmed" / name
        data = bytearray(file.read_bytes())
        data[-9] ^= 1
        file.write_bytes(data)
        with pytest.raises(ValueError, match=message):
            Method.from_pretrained(str(tmp_path / "harmed"))
        shutil.rmtree(tmp_path / "harmed")
    (tmp_path / "shared" / "config.json").write_text("{}")
    with pytest.raises(
        ValueError, match="config.json: format xsae.method.2 expected, none found; this is no shared method"
    ):
        Method.from_pretrained(str(tmp_path / "shared"))


def test_the_command_writes_a_folder_whose_card_says_what_the_manifests_know(run, tmp_path):
    paths, store, x = run
    root = paths.artifacts.parents[1]
    done = share(root, "own", "b", "posthoc", 1, "--to", tmp_path / "shared")
    assert done.returncode == 0, done.stderr
    card = ModelCard.load(tmp_path / "shared" / "README.md")
    assert card.data.library_name == "xsae" and card.data.license == "mit"
    for fact in ("| method | posthoc |", "| embeddings of | ViT-B-32:own |", "| training pairs | 150 |", "| k | 2 |",
                 "- loss (image): 0.125", "arXiv 2606.29888", "| aligned to the first | text |"):  # fmt: skip
        assert fact in card.text, fact
    lines = card.text.split("```python\n")[1].split("```")[0]
    scope = {"x": x["image"]}
    exec(lines, scope)  # the card's own lines load it
    original = loaded(paths, "posthoc", store)
    assert (scope["codes"] != original.transform("image", x["image"])).nnz == 0
    done = share(root, "own", "b", "posthoc", 1, "--to", tmp_path / "shared")
    assert done.returncode == 2 and "is there already" in done.stderr and done.stderr.count("\n") == 1


def test_a_card_says_what_others_wrote_as_text_not_as_markup():
    facts = {"source": "<script>x</script> | [a](b)\n| more | cells |"}
    text = hub.card("Method", facts, 'my "folder"', ["loss (<b>image</b>): 0.1"]).text
    assert "\n- loss (&lt;b&gt;image&lt;/b&gt;): 0.1\n" in text
    assert r"| source | &lt;script&gt;x&lt;/script&gt; \| [a](b) \| more \| cells \| |" in text
    assert r'from_pretrained("my \"folder\"")' in text


def test_what_cannot_be_shared_or_had_is_one_line(run, tmp_path):
    root = run[0].artifacts.parents[1]
    done = share(root, "own", "b", "posthoc", 1, "--hub", "user/name")
    assert (
        done.returncode == 2
        and done.stderr.startswith("error: user/name: not written")
        and done.stderr.count("\n") == 1
    )
    done = share(root, "own", "b", "iso_energy", 1, "--to", tmp_path / "shared")
    assert done.returncode == 2 and "02_sae_training makes them" in done.stderr and not (tmp_path / "shared").exists()
    with pytest.raises(OSError, match="^user/absent: no folder, and no repository that can be fetched") as error:
        Method.from_pretrained("user/absent", local_files_only=True, cache_dir=tmp_path)
    assert "\n" not in str(error.value)


def test_a_repository_in_the_hubs_cache_loads_without_a_network(run, tmp_path):
    paths, store, x = run
    original = loaded(paths, "posthoc", store)
    repository, commit = tmp_path / "models--user--name", "0" * 40
    original.save_pretrained(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    again = Method.from_pretrained("user/name", local_files_only=True, cache_dir=tmp_path)
    assert (again.transform("text", x["text"]) != original.transform("text", x["text"])).nnz == 0
    assert json.loads((repository / "snapshots" / commit / "config.json").read_text())["aligned"] == ["text"]
