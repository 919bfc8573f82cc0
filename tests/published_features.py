"""A folder in the layout in which MMKD-CLIP publishes its features, of random images and vectors."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

DIMS = {"BMCA": 24, "BiomedCLIP": 16, "QuiltNet": 16, "Unheard": 8}
PROJECTED = 12
TEXTS = ("a chest x-ray", "a slide of tissue", "ct of the abdomen", "mri of the knee", "skin lesion", "eye")


@dataclass(frozen=True)
class Published:
    """The folder, the lines of its meta.jsonl, and every sample's raw and projected vectors."""

    folder: Path
    lines: list[dict]
    raw: list[dict[str, torch.Tensor]]
    projected: list[dict[str, torch.Tensor]]

    def sample(self, place: int) -> Path:
        """The folder of a sample."""
        return self.folder / "features" / self.lines[place]["folderid"] / self.lines[place]["id"]

    def write_meta(self) -> None:
        """The lines as meta.jsonl."""
        (self.folder / "meta.jsonl").write_text("".join(json.dumps(line) + "\n" for line in self.lines))


def publish(folder: Path, count: int = 48) -> Published:
    """`count` samples; every third lacks QuiltNet, every fourth BMCA; the last shares image and caption."""
    draws = np.random.default_rng(0)
    found = Published(folder, [], [], [])
    for place in range(count):
        folder_id, name = f"batch{place % 2}", f"PMC{place:04d}"
        every = {"QuiltNet": 3, "BMCA": 4}
        teachers = [each for each in DIMS if each not in every or place % every[each]]
        shown = place if place < count - 1 else 0
        text = f"{TEXTS[shown % len(TEXTS)]}, patient {shown}"
        where = folder / "features" / folder_id / name
        where.mkdir(parents=True)
        pixels = np.random.default_rng(shown).integers(0, 256, (40, 36, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(where / "figure.png")
        image = f"features/{folder_id}/{name}/figure.png" if place % 2 else "/elsewhere/figure.png"
        row = {"folderid": folder_id, "id": name, "imgpath": image, "metapath": f"{name}.json"}
        found.lines.append({**row, "txt": text, "available_clips": teachers})
        for file, dims, kept in (
            ("clips_output.pt", DIMS, found.raw),
            ("clips_project_output.pt", dict.fromkeys(DIMS, PROJECTED), found.projected),
        ):
            vectors = {
                f"{teacher}_{tower}": torch.from_numpy(draws.normal(size=dims[teacher]).astype(np.float32))
                for teacher in teachers
                for tower in ("img", "txt")
            }
            torch.save(vectors, where / file)
            kept.append(vectors)
    found.write_meta()
    return found
