"""Three specialists into one student on real images: is it better than each, and than itself alone?

    python -m studies.real_images --data FOLDER --out runs/real_images

FOLDER is as `studies/real_data.py` describes it. The patients of the train split are divided in two by a
hash: teachers learn from one half, every student arm from the other. Arms and seeds resume one by one. The
suite and its mean were fixed before the first run: zero-shot and linear probe of every classification task
(balanced accuracy) and retrieval among the real captions (mean recall), unweighted.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from meddistill.evaluation.base.results import Results
from meddistill.evaluation.engine.suite_config import SuiteConfig
from studies.pooled import pooled
from studies.real_data import Lab, test_suite
from studies.tables import by_task, overview

SEEDS = (0, 1, 2)
SIZE = 64
# How long the specialists learn. The first run's were cut short; see EXPERIMENTS.md.
TEACHER_EPOCHS = {
    "short": {"radiology": 12, "visible_light": 30, "microscopy": 40},
    "long": {"radiology": 32, "visible_light": 90, "microscopy": 180},
}
MODALITIES = {
    "radiology": ["xray", "ct", "mri"],
    "visible_light": ["ultrasound", "endoscopy", "fundus"],
    "microscopy": ["microscopy", "histology"],
}
TEXT = {"width": 128, "heads": 4, "layers": 3, "context_length": 64}
STUDENT = {"image_tower": "mobilenetv4_conv_small_050", "image_size": SIZE, "embed_dim": 128, "text": TEXT}
TEACHER = {
    "image_tower": "mobilenetv4_conv_small",
    "image_size": SIZE,
    "embed_dim": 256,
    "text": {**TEXT, "width": 256},
}
PRETRAIN_EPOCHS, DISTILL_EPOCHS = 6, 14
DISTILLING = {
    "objectives": {"contrastive": 1.0, "feature_mse": 50.0, "interactive_contrastive": 1.0},
    "selection": {"kind": "random_draw"},
}
TRAINING = {"batch_size": 64, "learning_rate": 1e-3, "checkpoint_every": 100}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/real_images"))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--teachers", choices=TEACHER_EPOCHS, default="short")
    options = parser.parse_args(arguments)
    lab = Lab(options.data, options.out)
    study = Study(lab, teachers=options.teachers)
    lab.write_pairs()
    lab.write("suite.yaml", test_suite(lab, lab.write_labels(), knn=True))
    for name in MODALITIES:
        lab.run(study.teacher_folder(name), study.teacher(name), until="train")
    for seed in options.seeds:
        lab.run(f"alone_{seed}", study.student(seed, arm="alone"), until="train")
        lab.run(study.distilled_folder(seed), study.student(seed, arm="distilled"), until="report")
    study.summarize(options.seeds)


class Study:
    """The arms of the study as recipes."""

    def __init__(self, lab: Lab, *, teachers: str = "short") -> None:
        self.lab, self.teachers = lab, teachers

    def teacher_folder(self, name: str) -> str:
        """The run folder of a specialist."""
        return f"teacher_{name}" if self.teachers == "short" else f"teacher_{self.teachers}_{name}"

    def distilled_folder(self, seed: int) -> str:
        """The run folder of a distilled student."""
        return f"distilled_{seed}" if self.teachers == "short" else f"distilled_{self.teachers}_{seed}"

    def summarize(self, seeds: Sequence[int]) -> None:
        """Print the tables over seeds and keep them in `summary_*.md`."""
        folders = [self.lab.out / self.distilled_folder(seed) / "evaluation" for seed in seeds]
        runs = [Results.load(folder) for folder in folders]
        judged = SuiteConfig.model_validate(yaml.safe_load((self.lab.out / "suite.yaml").read_text()))
        summary = f"{pooled(folders, judged)}\n\n{overview(runs)}\n\n{by_task(runs)}\n"
        (self.lab.out / f"summary_{self.teachers}.md").write_text(summary)
        print(summary)

    def teacher(self, name: str) -> dict[str, Any]:
        """A specialist's recipe."""
        stage = {
            "name": "train",
            "method": "contrastive",
            "epochs": TEACHER_EPOCHS[self.teachers][name],
            **TRAINING,
        }
        where = {"pool": "teacher", "modality": MODALITIES[name]}
        return {"data": self.lab.pairs(where), "student": TEACHER, "stages": [stage], "licence_policy": "any"}

    def student(self, seed: int, *, arm: str) -> dict[str, Any]:
        """The student with or without its teachers; the same architecture, data and number of steps."""
        common = {**TRAINING, "seed": seed}
        pretrain = {"name": "pretrain", "method": "contrastive", "epochs": PRETRAIN_EPOCHS, **common}
        distill = {
            "name": "distill",
            "method": "embedding",
            **DISTILLING,
            "views": "fixed",
            "epochs": DISTILL_EPOCHS,
            **common,
        }
        alone = {"name": "continue", "method": "contrastive", "epochs": DISTILL_EPOCHS, **common}
        recipe = {
            "data": self.lab.pairs({"pool": "transfer"}),
            "student": STUDENT,
            "stages": [pretrain, distill if arm == "distilled" else alone],
            "licence_policy": "any",
        }
        if arm == "alone":
            return recipe
        return {
            **recipe,
            "teachers": {
                name: {
                    "kind": "open_clip",
                    "model": f"local-dir:{self.teacher_folder(name)}/student",
                    "modalities": modalities,
                    "licence": "proprietary",
                }
                for name, modalities in MODALITIES.items()
            },
            "evaluate": {"suite": "suite.yaml", "baselines": {"student_alone": f"alone_{seed}/student"}},
        }


if __name__ == "__main__":
    main()
