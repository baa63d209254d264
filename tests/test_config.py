import pytest
import yaml

from xsae.methods import METHODS
from xsae.run import config
from xsae.run.config import CONFIGS, load_config, run_name
from xsae.run.notebooks import left_out

SMOKE = yaml.safe_load((CONFIGS / "smoke.yaml").read_text())


def written(folder, **changes):
    values = {key: value for key, value in (SMOKE | changes).items() if value is not None}
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(values))
    return str(path)


def test_shipped_configs_load():
    assert load_config("laptop").seeds == [1, 2, 3] and load_config("smoke").latents == 128
    assert load_config("paper", "some/where/cc3m.npz").k == 32


def test_the_papers_operating_point_is_the_papers():
    paper = load_config("paper", "cc3m.npz", latents=8192)
    recipe = (paper.latents, paper.k, paper.epochs, paper.batch_size, paper.learning_rate, paper.weight_decay)
    assert recipe == (8192, 32, 10, 1024, 5e-4, 1e-5) and paper.warmup == 0.05 and paper.aux_coefficient == 0


def test_own_embeddings_take_the_recipes_rate_unless_their_config_says_another(tmp_path):
    assert load_config("laptop").learning_rate != load_config("paper").learning_rate == 5e-4
    assert load_config("laptop", embeddings="my.npz").learning_rate == 5e-4
    (tmp_path / "mine.yaml").write_text("extends: laptop\nlearning_rate: 0.001\n")
    assert load_config(str(tmp_path / "mine.yaml"), embeddings="my.npz").learning_rate == 0.001


def test_a_config_takes_from_another_what_it_does_not_say(tmp_path):
    synthetic = load_config("paper-synthetic")
    assert (
        synthetic.backbones == [] and synthetic.synthetic_latents == load_config("paper", "cc3m.npz").synthetic_latents
    )
    file = tmp_path / "own.yaml"
    file.write_text("extends: smoke\nk: 4\n")
    assert load_config(str(file)) == load_config("smoke").model_copy(update={"k": 4})
    (tmp_path / "other.yaml").write_text("extends: own.yaml\n")
    with pytest.raises(ValueError, match="other.yaml: `extends`: own.yaml extends another itself"):
        load_config(str(tmp_path / "other.yaml"))
    file.write_text("extends: smok\n")
    with pytest.raises(ValueError, match="config: 'smok' is unknown; one of laptop,"):
        load_config(str(file))


def test_what_a_config_does_not_say_is_the_papers_recipe(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("backbones: [vit]\n")
    paper = load_config("paper", "cc3m.npz", latents=8192).model_dump()
    paper |= {"embeddings": "", "backbones": ["vit"], "patience": 0, "skip": []}
    paper |= {"device": "cpu", "precision": "float32"}
    assert load_config(str(file)).model_dump() == paper | {"kinds": load_config("laptop").kinds}


def test_a_config_knows_every_method_in_their_order():
    assert tuple(METHODS) == config.METHODS


def test_skipped_notebooks_are_left_out_with_their_tables(tmp_path):
    assert load_config("laptop", "own.npz").skip == ["07_ablations"]
    file = tmp_path / "own.yaml"
    file.write_text("extends: smoke\nskip: [04_retrieval, 01b_theory]\n")
    assert left_out(load_config(str(file))) == {
        "retrieval", "retrieval_intervals", "zeroshot", "zeroshot_intervals", "cos_sweep", "lambda_sweep",
        "matched_world", "choices",
    }  # fmt: skip
    file.write_text("extends: smoke\nskip: []\n")
    assert load_config(str(file), "own.npz").skip == [] and left_out(load_config("smoke")) == {"choices"}


def test_own_embeddings_size_the_dictionary_unless_told_and_name_the_run():
    run = load_config("laptop", "some/where/coco.npz", quick=True)
    assert run.latents == 0 and run.k == 8 and run.backbones == ["coco"] and run.embeddings == "some/where/coco.npz"
    assert load_config("laptop", "coco.npz", latents=256).latents == 256
    assert load_config("laptop", "coco.npz", "image, text").modalities == ["image", "text"] and run.modalities == []
    with pytest.raises(ValueError, match=r"modalities: \['text', 'text'\] holds one twice"):
        load_config("laptop", "coco.npz", "text,text")
    assert run_name("laptop") == "laptop" and run_name("laptop", "a/coco.npz") == "laptop-coco"
    assert run_name("here/own.yaml", "a/coco.npz") == "own-coco"


@pytest.mark.parametrize(
    ("text", "found", "quick"),
    [
        ("extends: laptop", ("auto", "auto"), (8, 0)),  # what a config of ours says is the embedded world's
        ("extends: laptop\nk: 16", (16, "auto"), (16, 0)),  # what yours says stands
        ("extends: laptop\nlatents: 300", ("auto", 300), (8, 300)),
        ("extends: laptop\nk: auto", ("auto", "auto"), ("auto", 0)),
        ("backbones: [vit]\nk: 4", (4, "auto"), (4, 0)),
        ("backbones: [vit]", (32, 0), (32, 0)),  # the paper's recipe
    ],
)
def test_own_embeddings_have_k_and_latents_chosen_unless_told(tmp_path, text, found, quick):
    path = tmp_path / "own.yaml"
    path.write_text(text + "\n")
    for values, options in ((found, {}), (quick, {"quick": True}), ((found[0], 960), {"latents": 960})):
        run = load_config(str(path), "a.npz", **options)
        assert (run.k, run.latents) == values
        assert run.auto == tuple(name for name, value in zip(("k", "latents"), values, strict=True) if value == "auto")


def test_quick_is_about_own_embeddings():
    with pytest.raises(ValueError, match="^quick: of no use without --embeddings FILE.npz"):
        load_config("laptop", quick=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("k: atuo", "`k`: 'atuo' found; input should be a valid integer, or auto"),
        ("latents: -1", "`latents`: -1 found; input should be greater than or equal to 0, or auto"),
        ("group_sparse: Auto", "`group_sparse`: 'Auto' found; input should be a valid number, or auto"),
        ("epochs: auto", "`epochs`: 'auto' found; input should be a valid integer$"),
        ("iso_energy: auto\nmethods: [shared, shared_bias, separated, posthoc]", "iso_energy: `auto` is of no use"),
        ("k: auto\nbackbones: []", "k: `auto` is of no use without backbones"),
    ],
)
def test_auto_where_it_does_not_fit_gets_one_line(tmp_path, text, message):
    path = tmp_path / "own.yaml"
    path.write_text(f"extends: smoke\n{text}\n")
    with pytest.raises(ValueError, match=f"^own.yaml: {message}") as error:
        load_config(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent": 64}, "unknown parameter `latent`; did you mean `latents`?"),
        ({"zzz": 64}, "unknown parameter `zzz`; known are embeddings,"),
        ({"skip": ["02_sae_training"]}, "`skip.0`: '02_sae_training' found; .*'07_ablations'"),
        ({"k": 65}, "k: 65 exceeds the 64 latents"),
        ({"k": 0}, "`k`: 0 found"),
        ({"k": "8"}, "`k`: '8' found"),
        ({"seeds": [1, 1]}, r"seeds: \[1, 1\] holds one twice"),
        ({"seeds": []}, r"`seeds`: \[\] found"),
        ({"warmup": 1.0}, "`warmup`: 1.0 found; input should be less than 1"),
        ({"backbones": None}, "add --embeddings FILE.npz"),
        ({"synthetic_k": 129}, "synthetic_k: 129 exceeds the 128 latents"),
        ({"ablation_ks": [4, 65]}, "ablation_ks: 65 exceeds the 64 latents"),
        ({"ablation_activations": ["gelu"]}, "`ablation_activations.0`: 'gelu' found; .*'batch_topk'"),
        ({"methods": ["sparce"]}, "`methods.0`: 'sparce' found; .*'sparc'"),
        (
            {"methods": ["shared", "separated", "posthoc", "sparc"]},
            "methods: 'shared_bias' is missing; the claims need",
        ),
        ({"kinds": ["colours"]}, "`kinds.0`: 'colours' found; .*'colour'"),
        ({"learning_rate": "5e-4"}, r"`learning_rate`: '5e-4' found; .*write 5.0e-4"),
    ],
)
def test_a_config_that_does_not_fit_gets_one_line(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as raised:
        load_config(written(tmp_path, **changes))
    assert str(raised.value).startswith("own.yaml: ") and "\n" not in str(raised.value)


def test_other_files_get_one_line(tmp_path):
    with pytest.raises(ValueError, match="config: 'laptp' is unknown; one of laptop, paper, paper-synthetic, smoke"):
        load_config("laptp")
    (tmp_path / "a.yaml").write_text("k: [1\nb: }")
    with pytest.raises(ValueError, match=r"a.yaml: not YAML") as raised:
        load_config(str(tmp_path / "a.yaml"))
    assert "\n" not in str(raised.value)
    (tmp_path / "a.yaml").write_text("just words")
    with pytest.raises(ValueError, match=r"a.yaml: `key: value` lines expected, str found"):
        load_config(str(tmp_path / "a.yaml"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latents": 10**12}, "`latents`: 1000000000000 found; input should be less than or equal to 100000000"),
        ({"epochs": 10**10}, "`epochs`: 10000000000 found"),
        ({"batch_size": 10**30}, "`batch_size`: 1000"),
        ({"weight_decay": float("inf")}, "`weight_decay`: inf found; input should be a finite number"),
        ({"learning_rate": float("nan")}, "`learning_rate`: nan found"),
        ({"iso_energy": float("inf")}, "`iso_energy`"),
        ({"alphas": [1.0, float("inf")]}, "`alphas.1`: inf found"),
        ({"cosines": [float("nan")]}, "`cosines.0`: nan"),
        ({"alphas": [1.0, 1.0]}, r"alphas: \[1.0, 1.0\] holds one twice"),
        ({"cosines": [0.5, 0.5]}, "cosines: .* holds one twice"),
        ({"methods": ["shared", "shared_bias", "separated", "posthoc"] * 2}, "methods: .* holds one twice"),
        ({"kinds": ["colour"] * 2}, "kinds: .* holds one twice"),
        ({"penalty_factors": [2.0, 2.0]}, "penalty_factors: .* twice"),
        ({"ablation_ks": [4, 4]}, "ablation_ks: .* twice"),
        ({"ablation_activations": ["relu", "relu"]}, "ablation_activations: .* holds one twice"),
        ({"backbones": ["../x"]}, "backbones: '../x': it holds '/'"),
        ({"backbones": [""]}, "backbones: '': it is empty"),
        ({"backbones": ["a\nb"]}, r"it holds '\\n'"),
        ({"backbones": ["{x}"]}, "it holds '{'"),
        ({"backbones": ["$(x)"]}, r"it holds '\$'"),
        ({"backbones": ["vit", "vit"]}, "backbones: .* holds one twice"),
        ({"models": {"vit": "x"}}, "models: of no use without `sources`"),
        (
            {"models": {"other": "x"}, "sources": ["scenes:60"]},
            "models: 'other' is none of the backbones; they are vit,",
        ),
        ({"classes": "imagenet:x"}, "classes: of no use without `sources`"),
        ({"extraction_jobs": 4}, "extraction_jobs: of no use without `sources`"),
        ({"retrain": True, "sources": ["scenes:60"]}, "retrain: of no use with `sources`"),
        ({"k": [[[[[[[[1]]]]]]]]}, "`k`: .* found; input should be a valid integer"),
        ({"k": "9" * 5000}, "`k`: '999.*' found"),
        ({"k": True}, "`k`: True found"),
        ({"seeds": [-1]}, "`seeds.0`: -1"),
        ({"held_out": 1.0}, "`held_out`: 1.0 found"),
        ({"device": "tpu"}, "`device`: 'tpu' found"),
        ({"modalities": ["image", "text"]}, "modalities: of no use without --embeddings FILE.npz"),
        ({"modalities": "image,text"}, "`modalities`: 'image,text' found; input should be a valid list"),
        ({"held_out": 0.3}, "held_out: of no use without --embeddings FILE.npz"),
    ],
)
def test_values_that_mean_harm_get_one_line(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as raised:
        load_config(written(tmp_path, **changes))
    said = str(raised.value)
    assert said.startswith("own.yaml: ") and "\n" not in said and len(said) < 500


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1: 2\n", "key 1 is no text"),
        ("null: 2\n", "key None is no text"),
        ("true: 2\n", "key True is no text"),
        ("? [1, 2]\n: 3\n", "not YAML|is no text"),
        ("k: 4\nk: 5\n", "not YAML: line 2: `k` is there twice"),
        ("models: {a: b, a: c}\n", "`a` is there twice"),
        ("k: !!python/object/apply:os.system [x]\n", "not YAML"),
        ("k: !include /etc/passwd\n", "not YAML"),
        ("k: 2024-13-45\n", "not YAML"),
        ("extends: smoke\nk: &a [*a]\n", "`k`: "),
        ("[" * 5000, "not YAML"),
        ("k: 'open\n", "not YAML"),
        ("\t- k", "not YAML"),
        ("", "lines expected, NoneType found"),
        ("- k\n", "lines expected, list found"),
        ("extends: [smoke]\n", "config: .* is unknown"),
        ("extends: ../smoke\n", "is unknown"),
        (
            "extends: smoke\na: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\n"
            "c: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n"
            "d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nk: [*e,*e,*e,*e,*e,*e,*e,*e]\n",
            "`k`: |unknown parameter",
        ),
    ],
)
def test_files_that_mean_harm_get_one_line(tmp_path, text, message):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(ValueError, match=message) as raised:
        load_config(str(tmp_path / "own.yaml"))
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 900


def test_a_file_that_is_no_text_gets_one_line(tmp_path):
    (tmp_path / "own.yaml").write_bytes(b"k: \xff\xfe\n")
    with pytest.raises(ValueError, match="own.yaml: not YAML") as raised:
        load_config(str(tmp_path / "own.yaml"))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("skip: [01b_theory]\ncosines: [0.5]", "cosines: of no use without 01b_theory, which this config leaves out"),
        ("skip: [01b_theory]\nsynthetic_k: 2", "synthetic_k: of no use without 01b_theory"),
        ("skip: [07_ablations]\nablation_ks: [2]", "ablation_ks: of no use without 07_ablations"),
        ("sources: [cc3m]\nretrain: false\nn_train_scenes: 60", "n_train_scenes: of no use without the embedded world"),
        ("sources: [cc3m]\nn_test_scenes: 60", "n_test_scenes: of no use without the embedded world"),
    ],
)
def test_a_setting_that_the_run_would_ignore_gets_one_line(tmp_path, text, message):
    file = tmp_path / "own.yaml"
    file.write_text(f"extends: smoke\n{text}\n")
    with pytest.raises(ValueError, match=f"^own.yaml: {message}"):
        load_config(str(file))
    file.write_text(f"extends: smoke\n{text.splitlines()[0]}\n")  # what it only inherits it need not take back
    load_config(str(file))


@pytest.mark.parametrize("skip", ["3", "{a: b}", "[3]", "[[01b_theory]]", "text", "[02_sae_training]"])
def test_what_cannot_be_left_out_gets_one_line(tmp_path, skip):
    (tmp_path / "own.yaml").write_text(f"extends: smoke\nskip: {skip}\n")
    with pytest.raises(ValueError, match=r"^own.yaml: `skip") as error:
        load_config(str(tmp_path / "own.yaml"))
    assert "\n" not in str(error.value)
