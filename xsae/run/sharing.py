"""Share what a run has trained: autoencoders, alignment and card in a folder, or in a repository of the hub.

python -m xsae.run.sharing laptop vit posthoc 1 --to shared/vit-posthoc
python -m xsae.run.sharing laptop vit posthoc 1 --hub user/name      # with the hub's own login
"""

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd

from xsae.data.store import open_store
from xsae.methods import METHODS, Method
from xsae.run.jobs import load_method
from xsae.run.paths import RunPaths
from xsae.training import BIAS_STARTS


def known(run: str, backbone: str, method: str, seed: int, bias_start: str = "mean") -> tuple[Method, dict[str, Any]]:
    """A run's method, and what `Method.generate_model_card` is to say of it: facts from its manifests and tables.

    Raises FileNotFoundError or ValueError, one line, for what the run has not made.
    """
    paths = RunPaths(run)
    store = open_store(paths.embeddings(backbone))
    found = load_method(
        paths, backbone=backbone, method=method, bias_start=bias_start, seed=seed, data_hash=store.fingerprint
    )
    trained = "separated" if method == "posthoc" else method
    folder = paths.checkpoint(backbone, trained, bias_start, seed)
    settings = json.loads((folder / "training.json").read_text())["settings"]
    software = ", ".join(f"{name} {number}" for name, number in store.manifest["software"].items())
    facts = {
        "method": method, "seed": seed, "embeddings of": store.manifest["model"], "source": store.manifest["source"],
        "training pairs": store.manifest["pairs"]["train"], "software": software,
    }  # fmt: skip
    told = ("batch_size", "learning_rate", "epochs", "bias_start", "warmup", "weight_decay", "aux_coefficient")
    facts |= {name.replace("_", " "): settings[name] for name in told}
    results = []
    table = paths.results / "reconstruction.csv"
    if table.is_file():
        rows = pd.read_csv(table).query(
            "backbone == @backbone and method == @trained and seed == @seed and bias_start == @bias_start"
        )
        results = [f"{row.metric} ({row.modality}): {row.value:.4g}" for row in rows.itertuples()]
    return found, {"facts": facts, "results": results}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="name of the run, as in results/")
    parser.add_argument("backbone")
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("seed", type=int)
    parser.add_argument("--bias-start", choices=BIAS_STARTS, default="mean", help="where the decoder biases started")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--to", type=Path, help="a folder, new or empty")
    where.add_argument("--hub", help="USER/NAME of a repository; made where there is none")
    arguments = parser.parse_args()
    place = arguments.hub or arguments.to
    try:
        if arguments.to and arguments.to.exists() and (not arguments.to.is_dir() or any(arguments.to.iterdir())):
            raise ValueError(f"{arguments.to}: is there already; a new or an empty folder is needed")
        found, about = known(arguments.run, arguments.backbone, arguments.method, arguments.seed, arguments.bias_start)
        about["place"] = str(place)
        try:
            if arguments.hub:
                found.push_to_hub(arguments.hub, model_card_kwargs=about)
            else:
                found.save_pretrained(arguments.to, model_card_kwargs=about)
        except Exception as error:  # of the hub's client, which has a kind for each of token, name and network
            raise OSError(f"{place}: not written ({' '.join(str(error).split())[:200]})") from None
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {error}\n")
    print(f"{place}: {arguments.method} of {arguments.backbone}, seed {arguments.seed}")


if __name__ == "__main__":
    main()
