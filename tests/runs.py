"""Runs as a user starts them: own processes, own folders."""

import json
import os
import subprocess
import sys

import yaml

from xsae.disk.markers import digest

TINY = {
    "n_train_scenes": 200,
    "n_test_scenes": 40,
    "backbones": ["vit"],
    "latents": 64,
    "k": 4,
    "epochs": 5,
}


def command(*arguments):
    return [sys.executable, "-m", "xsae.run.launch", *map(str, arguments)]


def call(root, *arguments):
    environment = os.environ | {"XSAE_ROOT": str(root)}
    done = subprocess.run(command(*arguments), env=environment, capture_output=True, text=True, timeout=1200, cwd=root)
    return done.returncode, done.stdout + done.stderr


def tables(root, run):
    return {path.name: path.read_bytes() for path in (root / "results" / run).glob("*.csv")}


def tiny(folder, **changes):
    path = folder / "tiny.yaml"
    settings = {name: value for name, value in TINY.items() if "scenes" not in name or "sources" not in changes}
    path.write_text(yaml.safe_dump({"extends": "smoke", **settings, **changes}))
    return path


def resealed(marker, **changes):
    """Change what a folder's marker says as somebody would who knows its checksum."""
    said = json.loads(marker.read_text()) | changes
    said.pop("sha256")
    marker.write_text(json.dumps(said | {"sha256": digest(said)}))
