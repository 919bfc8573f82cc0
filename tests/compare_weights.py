"""Do two revisions train the same weights, bit for bit?

    python tests/compare_weights.py HEAD~1 HEAD

Each revision is checked out beside the other and runs one small recipe on one thread: a stage for every
method, projection, masked images and kind of selection and weighting, each from where the one before left
the student. The hashes of the student after every stage are compared; exit code 1 if one differs. `.` names
the files as they stand, committed or not.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
IMAGES: Final = {"contrastive": 1.0, "feature_mse": 50.0}
PAIRS: Final = {"contrastive": 1.0, "interactive_contrastive": 1.0, "similarity_kl": 1.0}
OWN_LAYERS: Final = {"gradient_distillation": 1e3, "affinity_mimicking": 1.0, "augmented_feature_fusion": 1.0}
AUTOENCODER: Final = {"kind": "linear_autoencoder", "steps": 20, "hidden_dim": 32, "batch_size": 16}
CONFIDENCE: Final = {"kind": "confidence", "teacher_scale": 10.0}
FIXED: Final = {"kind": "fixed", "weights": {"radiology": 1.0, "microscopy": 2.0, "general": 0.0}}
STAGES: Final[dict[str, dict[str, Any]]] = {
    "contrastive": {"method": "contrastive"},
    "default": {"method": "embedding"},
    "pairs": {"objectives": PAIRS, "selection": {"kind": "random_draw"}},
    "layers": {"objectives": OWN_LAYERS},
    "autoencoder": {"objectives": {**IMAGES, **PAIRS}, "projection": AUTOENCODER},
    "phi_s": {"objectives": IMAGES, "projection": {"kind": "phi_s"}},
    "joint_pca": {"objectives": {**IMAGES, "similarity_kl": 1.0}, "projection": {"kind": "joint_pca"}},
    "masked": {"objectives": {"contrastive": 1.0, "masked_feature_distillation": {"patch_size": 8}}},
    "batch_draw": {"objectives": IMAGES, "selection": {"kind": "batch_draw"}},
    "dropping": {"objectives": IMAGES, "selection": {"kind": "teacher_dropping"}},
    "fixed": {"objectives": IMAGES, "weighting": FIXED},
    "uncertainty": {"objectives": IMAGES, "weighting": {"kind": "uncertainty"}},
    "confidence": {"objectives": IMAGES, "weighting": CONFIDENCE},
    "gradients": {"objectives": IMAGES, "weighting": {"kind": "torchjd", "method": "mgda"}},
    "min_norm": {"objectives": IMAGES, "weighting": {"kind": "min_norm", "by": "modality"}},
    "losses": {"objectives": IMAGES, "weighting": {"kind": "torchjd", "method": "stch"}},
    "micro_batches": {"objectives": {**IMAGES, **PAIRS}, "micro_batch": 8},
}
TRAINING: Final = {"epochs": 2, "batch_size": 16, "learning_rate": 1e-3}


def recipe_stages() -> list[dict[str, Any]]:
    """The stages as a recipe has them."""
    return [{"name": name, "method": "embedding", **TRAINING, **stage} for name, stage in STAGES.items()]


def train_here(folder: Path) -> dict[str, str]:
    """Stage → hash of the student after it, by the revision that this process imports."""
    import torch

    from meddistill.cli import main as meddistill
    from recipe_data import write_world

    torch.set_num_threads(1)
    recipe = write_world(folder, stages=recipe_stages())
    code = meddistill(["train", str(recipe), "--out", str(folder / "run"), "--quiet"])
    if code:
        raise SystemExit(code)
    files = {name: sorted((folder / "run" / "stages" / name).glob("*.safetensors")) for name in STAGES}
    return {
        name: hashlib.sha256(b"".join(map(Path.read_bytes, found))).hexdigest()
        for name, found in files.items()
    }


def train(revision: str, folder: Path) -> dict[str, str]:
    """The same by a revision of its own."""
    tree = ROOT
    if revision != ".":
        tree = folder / "tree"
        subprocess.run(["git", "worktree", "add", "--detach", tree, revision], cwd=ROOT, check=True)
    paths = os.pathsep.join(map(str, (tree / "src", tree / "tests")))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, __file__, "--train-in", str(folder / "world")]
    try:
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    finally:
        if tree != ROOT:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)
    hashes: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return hashes


def main() -> int:
    """Compare, and print a line a stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("revisions", nargs="*", default=["HEAD~1", "HEAD"], help="two of git's names")
    parser.add_argument("--train-in", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train_in is not None:
        sys.stdout.write(json.dumps(train_here(options.train_in)))
        return 0
    before, after = options.revisions
    with TemporaryDirectory() as first, TemporaryDirectory() as second:
        old, new = train(before, Path(first)), train(after, Path(second))
    for name in STAGES:
        found = "same" if old[name] == new[name] else "DIFFERENT"
        sys.stdout.write(f"{name}: {found} ({new[name][:12]})\n")
    return 0 if old == new else 1


if __name__ == "__main__":
    sys.exit(main())
