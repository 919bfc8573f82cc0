"""Copies of the known sets in small, in the layout of their authors, as complete as a suite needs them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from known_checks import picture, write_csv

from karpathy_copies import flickr30k, mscoco
from meddistill.data.known.medmnist import flags

SPLITS = ("train", "validation", "test")


def medmnist(folder: Path, suffix: str = "_224") -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for flag, facts in flags().items():
        made: dict[str, Any] = {}
        for split in ("train", "val", "test"):
            width = len(facts["labels"]) if facts.get("multilabel") else 1
            made[f"{split}_images"] = rng.integers(0, 256, (3, 4, 4), dtype=np.uint8)
            made[f"{split}_labels"] = rng.integers(0, 2, (3, width), dtype=np.uint8)
        np.savez(folder / f"{flag}{suffix}.npz", **made)


def lc25000(folder: Path) -> None:
    for number, label in enumerate(("lung_aca", "lung_n", "lung_scc", "colon_aca", "colon_n")):
        picture(folder / f"{label.partition('_')[0]}_image_sets" / label / "1.jpeg", number)


def ham10000(folder: Path) -> None:
    lines = []
    for number in range(40):
        picture(folder / "images" / f"ISIC_{number:07d}.jpg", number)
        lines.append((f"HAM_{number}", f"ISIC_{number:07d}", ("mel", "nv")[number % 2]))
    write_csv(folder / "HAM10000_metadata.csv", "lesion_id,image_id,dx", lines)


def patch_camelyon(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number, split in enumerate(("train", "valid", "test")):
        stem = f"camelyonpatch_level_2_split_{split}"
        pixels = np.random.default_rng(number).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
        for name, content in (("x", pixels), ("y", np.array([0, 1], np.uint8).reshape(2, 1, 1, 1))):
            with h5py.File(folder / f"{stem}_{name}.h5", "w") as file:
                file[name] = content
        write_csv(folder / f"{stem}_meta.csv", "wsi", [(f"{split}_1",), (f"{split}_2",)])


def chexpert_5x200(folder: Path) -> None:
    names = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
    lines = []
    for number in range(5):
        path = f"CheXpert-v1.0/train/patient{number:05d}/study1/view1_frontal.jpg"
        picture(folder / path, number)
        lines.append((path, *(int(place == number) for place in range(5)), "an impression"))
    write_csv(folder / "chexpert_5x200.csv", ",".join(("Path", *names, "Report Impression")), lines)


def roco(folder: Path) -> None:
    for number, split in enumerate(("train", "valid", "test")):
        picture(folder / split / f"ROCOv2_{split}.jpg", number)
        write_csv(folder / f"{split}_captions.csv", "ID,Caption", [(f"ROCOv2_{split}", "a mass")])


def iu_xray(folder: Path) -> None:
    picture(folder / "images" / "images_normalized" / "1.png")
    write_csv(folder / "indiana_reports.csv", "uid,findings,impression", [(1, "Clear.", "Normal.")])
    write_csv(folder / "indiana_projections.csv", "uid,filename,projection", [(1, "1.png", "Frontal")])


def vqa_rad(folder: Path) -> None:
    records = []
    for name, phrase in (("a.jpg", "freeform"), ("a.jpg", "test_freeform"), ("b.jpg", "freeform")):
        picture(folder / "VQA_RAD Image Folder" / name, ord(name[0]))
        record = {"image_name": name, "question": f"Is it {phrase}?", "answer": "yes", "phrase_type": phrase}
        records.append({**record, "answer_type": "CLOSED", "question_type": "PRES"})
    (folder / "VQA_RAD Dataset Public.json").write_text(json.dumps(records))


def slake(folder: Path) -> None:
    for number, name in enumerate(("train", "validate", "test")):
        picture(folder / "imgs" / f"xmlab{number}" / "source.jpg", number)
        record = {"img_name": f"xmlab{number}/source.jpg", "question": "Which?", "answer": "Lung"}
        stated = {"q_lang": "en", "modality": "CT", "answer_type": "OPEN", "content_type": "Organ"}
        (folder / f"{name}.json").write_text(json.dumps([{**record, **stated}]))


def path_vqa(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number, split in enumerate(SPLITS):
        content = picture(folder / "one.png", number).read_bytes()
        table = {"image": [{"bytes": content, "path": "one.png"}], "question": ["Is it?"], "answer": ["no"]}
        pq.write_table(pa.table(table), folder / f"{split}-00000.parquet")


def vqa_med_2019(folder: Path) -> None:
    test = folder / "VQAMed2019Test"
    for number, (name, short, images) in enumerate(
        (("Training", "train", "Train_images"), ("Validation", "val", "Val_images"))
    ):
        place = folder / f"ImageClef-2019-VQA-Med-{name}"
        picture(place / images / f"synpic{number}.jpg", number)
        (place / f"All_QA_Pairs_{short}.txt").write_text(f"synpic{number}|what plane?|axial\n")
        (place / "QAPairsByCategory").mkdir()
        lines = f"synpic{number}|what plane?|axial\n"
        (place / "QAPairsByCategory" / f"C2_Plane_{short}.txt").write_text(lines)
    picture(test / "VQAMed2019_Test_Images" / "synpic2.jpg", 2)
    answers = test / "VQAMed2019_Test_Questions_w_Ref_Answers.txt"
    answers.write_text("synpic2|plane|what plane?|axial\n")


def tcga(folder: Path) -> None:
    lines = []
    for number in range(40):
        slide = f"TCGA-AB-{number:04d}-01Z-00-DX1"
        picture(folder / "thumbnails" / f"{slide}.jpg", number)
        (folder / "features_uni_v1").mkdir(exist_ok=True)
        with h5py.File(folder / "features_uni_v1" / f"{slide}.h5", "w") as file:
            file["features"] = np.zeros((2, 4), np.float32)
        lines.append((slide[:12], 1, 365 + number, ("LUAD", "LUSC")[number % 2], "MALE", 60))
    header = "bcr_patient_barcode,OS,OS.time,type,gender,age_at_initial_pathologic_diagnosis"
    write_csv(folder / "TCGA-CDR.csv", header, lines)


COPIES: dict[str, Callable[[Path], None]] = {
    each.__name__: each
    for each in (
        medmnist, chexpert_5x200, lc25000, patch_camelyon, ham10000, roco, iu_xray, vqa_rad, slake, path_vqa,
        vqa_med_2019, tcga, flickr30k, mscoco,
    )
}  # fmt: skip
