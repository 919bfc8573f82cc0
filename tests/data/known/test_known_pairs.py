"""Sets of captions and of classes whose images lie in files."""

from pathlib import Path

import pytest
from known_checks import check_suite, kinds, picture, rows, write_csv

from karpathy_copies import flickr30k, karpathy, mscoco
from meddistill.data.known.prepare import prepare
from meddistill.errors import ConfigError, TableError


@pytest.mark.parametrize("form", ["{0}", "{0}_images", "{0}_images/{0}"])
def test_rocov2(tmp_path: Path, form: str) -> None:
    base = tmp_path / "in"
    for split in ("train", "valid", "test"):
        for number in range(2):
            picture(base / form.format(split) / f"ROCOv2_2023_{split}_00000{number}.jpg", number)
        ids = [f"ROCOv2_2023_{split}_00000{number}" for number in range(2)]
        write_csv(
            base / f"{split}_captions.csv", "ID,Caption", [(ids[0], "a mass,\nleft "), (ids[1], "clear")]
        )
    concepts = [
        ("ROCOv2_2023_test_000000", "C0040405;C0000000"),
        ("ROCOv2_2023_test_000001", "C0040405;C0024485"),
    ]
    write_csv(base / "test_concepts.csv", "ID,CUIs", concepts)
    prepare("roco", base, tmp_path / "out")
    table = rows(tmp_path / "out" / "rocov2.csv")
    assert [row["split"] for row in table] == ["train"] * 2 + ["validation"] * 2 + ["test"] * 2
    assert table[0]["text"] == "a mass, left"
    assert [row["modality"] for row in table[-2:]] == ["ct", ""]
    suite = check_suite(tmp_path / "out")
    assert kinds(suite) == {"rocov2_retrieval": "retrieval", "rocov2_retrieval_2000": "retrieval"}
    assert suite["tasks"][1]["pairs"] == {"n": 2000, "seed": 42}
    assert suite["tasks"][1]["include_in_mean"] is False


@pytest.mark.parametrize(
    ("top", "validation"), [("", "val"), ("data", "validation"), ("all_data", "validation")]
)
def test_roco_of_2018(tmp_path: Path, top: str, validation: str) -> None:
    base = tmp_path / "in" / top
    names = {
        "train": "radiologytraindata.csv",
        validation: "radiologyvaldata.csv",
        "test": "radiologytestdata.csv",
    }
    for number, (split, table) in enumerate(names.items()):
        picture(base / split / "radiology" / "images" / f"ROCO_0000{number}.jpg", number)
        if top == "all_data":
            line = (f"ROCO_0000{number}", f"ROCO_0000{number}.jpg", " A mass.\n")
            write_csv(base / split / table, "id,name,caption", [line])
        else:
            lines = f"ROCO_0000{number}\t A mass.\n\nROCO_9\t\n"
            (base / split / "radiology" / "captions.txt").write_text(lines)
    if top == "all_data":
        found = prepare("roco", tmp_path / "in", tmp_path / "out")
    else:
        with pytest.raises(TableError, match=r"3 of 6 rows name one that is not"):
            prepare("roco", tmp_path / "in", tmp_path / "out")
        found = prepare("roco", tmp_path / "in", tmp_path / "out", skip_missing=True)
    assert found.tables == {tmp_path / "out" / "roco.csv": {"train": 1, "validation": 1, "test": 1}}
    assert {row["text"] for row in rows(tmp_path / "out" / "roco.csv")} == {"A mass."}
    check_suite(tmp_path / "out")


def test_iu_xray(tmp_path: Path) -> None:
    base = tmp_path / "in"
    for number, name in enumerate(("1.png", "2.png", "3.png", "4.png")):
        picture(base / "images" / "images_normalized" / name, number)
    write_csv(base / "indiana_reports.csv", "uid,MeSH,findings,impression",
              [(1, "normal", "Clear lungs.", "Normal."), (2, "", "", "")])  # fmt: skip
    lines = [
        (1, "1.png", "Frontal"),
        (1, "2.png", "Lateral"),
        (2, "3.png", "Frontal"),
        (1, "4.png", "Frontal"),
    ]
    write_csv(base / "indiana_projections.csv", "uid,filename,projection", lines)
    found = prepare("iu_xray", base, tmp_path / "out")
    table = rows(tmp_path / "out" / "iu_xray.csv")
    assert [(Path(row["image"]).name, row["text"], row["patient"]) for row in table] == [
        ("1.png", "Clear lungs. Normal.", "1"),
        ("4.png", "Clear lungs. Normal.", "1"),
    ]
    assert list(found.notes) == [
        "1 images that are not frontal left out",
        "1 images without a caption left out",
    ]
    assert check_suite(tmp_path / "out")["tables"]["iu_xray_test"]["patient"] == "patient"


FIVE = "Atelectasis,Cardiomegaly,Consolidation,Edema,Pleural Effusion"


@pytest.mark.parametrize("top", ["CheXpert-v1.0", "CheXpert-v1.0-small"])
def test_chexpert_5x200(tmp_path: Path, top: str) -> None:
    base = tmp_path / "in"
    path = "train/patient0000{}/study1/view1_frontal.jpg"
    for number in range(2):
        picture(base / top / path.format(number), number)
    lines = [("CheXpert-v1.0/" + path.format(0), 0, 1, 0, 0, 0, "big heart"),
             ("CheXpert-v1.0/" + path.format(1), 0, "0.0", 0, 0, "1.0", "wet")]  # fmt: skip
    write_csv(base / "chexpert_5x200.csv", f"Path,{FIVE},Report Impression", lines)
    prepare("chexpert_5x200", base, tmp_path / "out")
    table = rows(tmp_path / "out" / "chexpert_5x200.csv")
    assert [(row["label"], row["patient"], row["text"]) for row in table] == [
        ("Cardiomegaly", "patient00000", "big heart"),
        ("Pleural Effusion", "patient00001", "wet"),
    ]
    assert kinds(check_suite(tmp_path / "out")) == {
        "chexpert_5x200_zero_shot": "zero_shot",
        "chexpert_5x200_retrieval": "retrieval",
    }


def test_chexpert_rows_need_exactly_one_finding(tmp_path: Path) -> None:
    lines = [("CheXpert-v1.0/a.jpg", 1, 1, 0, 0, 0), ("CheXpert-v1.0/b.jpg", 1, 0, 0, 0, 0),
             ("CheXpert-v1.0/c.jpg", 0, 0, 0, 0, "")]  # fmt: skip
    write_csv(tmp_path / "in" / "chexpert_5x200.csv", f"Path,{FIVE}", lines)
    with pytest.raises(TableError, match=r"rows \[1, 3\] have none or several"):
        prepare("chexpert_5x200", tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("top", ["", "lung_colon_image_set"])
def test_lc25000(tmp_path: Path, top: str) -> None:
    base = tmp_path / "in" / top
    for number, label in enumerate(("lung_aca", "lung_n", "lung_scc", "colon_aca", "colon_n")):
        organ = label.partition("_")[0]
        picture(base / f"{organ}_image_sets" / label / f"{label}1.jpeg", number)
        (base / f"{organ}_image_sets" / label / "Thumbs.db").write_text("")
    prepare("lc25000", tmp_path / "in", tmp_path / "out")
    content = check_suite(tmp_path / "out")
    assert kinds(content) == {"lc25000_lung_zero_shot": "zero_shot", "lc25000_colon_zero_shot": "zero_shot"}
    table = rows(tmp_path / "out" / "lc25000.csv")
    for task, organ in zip(content["tasks"], ("lung", "colon"), strict=True):
        assert set(task["classes"]) == {row["label"] for row in table if row["organ"] == organ}
    for path in (base / "colon_image_sets" / "colon_n").iterdir():
        path.unlink()
    (base / "colon_image_sets" / "colon_n").rmdir()
    with pytest.raises(ConfigError, match=r"must hold .*colon_image_sets/colon_n; got"):
        prepare("lc25000", tmp_path / "in", tmp_path / "other")


def test_ham10000_holds_lesions_together(tmp_path: Path) -> None:
    base = tmp_path / "in"
    names = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    lines = []
    for number in range(60):
        image = f"ISIC_{number:07d}"
        picture(base / f"HAM10000_images_part_{1 + number % 2}" / f"{image}.jpg", number)
        lines.append((f"HAM_{number // 2}", image, names[number // 2 % 7], "histo", 50.0, "male", "back"))
    header = "lesion_id,image_id,dx,dx_type,age,sex,localization"
    write_csv(base / "HAM10000_metadata.csv", header, lines)
    prepare("ham10000", base, tmp_path / "out")
    table = rows(tmp_path / "out" / "ham10000.csv")
    splits = {
        row["patient"]: {each["split"] for each in table if each["patient"] == row["patient"]}
        for row in table
    }
    assert all(len(own) == 1 for own in splits.values())
    assert {row["split"] for row in table} == {"train", "validation", "test"}
    content = check_suite(tmp_path / "out")
    assert set(kinds(content).values()) == {"zero_shot", "linear_probe", "knn"}
    write_csv(base / "HAM10000_metadata.csv", header, [(*lines[0][:2], "wart", *lines[0][3:])])
    with pytest.raises(TableError, match=r"`dx` must be one of akiec, .*; got wart"):
        prepare("ham10000", base, tmp_path / "other")


@pytest.mark.parametrize("folder", ["flickr30k-images", "flickr30k_images", "images"])
def test_flickr30k(tmp_path: Path, folder: str) -> None:
    flickr30k(tmp_path / "in")
    (tmp_path / "in" / "flickr30k-images").rename(tmp_path / "in" / folder)
    found = prepare("flickr30k", tmp_path / "in", tmp_path / "out")
    assert found.tables == {tmp_path / "out" / "flickr30k.csv": {"train": 4, "validation": 2, "test": 4}}
    assert rows(tmp_path / "out" / "flickr30k.csv")[1] == {
        "image": f"{folder}/1000.jpg",
        "text": "Dog 0 runs 1.",
        "patient": "0",
        "modality": "photograph",
        "split": "train",
    }
    suite = check_suite(tmp_path / "out")
    assert kinds(suite) == {"flickr30k_retrieval": "retrieval"}
    assert suite["tables"]["flickr30k_test"]["patient"] == "patient"


@pytest.mark.parametrize("inside", ["", "images"])
def test_mscoco(tmp_path: Path, inside: str) -> None:
    """`restval` is trained on with all its captions; of images that are judged the first five stand."""
    mscoco(tmp_path / "in", inside)
    found = prepare("mscoco", tmp_path / "in", tmp_path / "out")
    assert found.tables == {tmp_path / "out" / "mscoco.csv": {"train": 14, "validation": 5, "test": 50}}
    assert "22 captions beyond the first 5 of an image left out of validation and test" in found.notes
    table = rows(tmp_path / "out" / "mscoco.csv")
    assert {row["patient"] for row in table if row["split"] == "train"} == {"500", "501"}
    suite = check_suite(tmp_path / "out")
    parts = [f"mscoco_test_{number}_retrieval" for number in range(1, 6)]
    assert list(kinds(suite)) == ["mscoco_retrieval", *parts]
    assert [task.get("include_in_mean", True) for task in suite["tasks"]] == [True, *(False,) * 5]
    # Parts of equal size, in the order of the file.
    assert [row["fold"] for row in table if row["split"] == "test"] == [
        fold for fold in "12345" for _ in range(10)
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", r"must hold `images`"),
        ('{"images": [{"filename": "1.jpg", "split": "test"}]}', r"`imgid` must be there in every row"),
        ("{", r"must be JSON"),
    ],
)
def test_a_file_that_is_not_karpathys(tmp_path: Path, content: str, message: str) -> None:
    flickr30k(tmp_path / "in")
    (tmp_path / "in" / "dataset_flickr30k.json").write_text(content)
    with pytest.raises(TableError, match=message):
        prepare("flickr30k", tmp_path / "in", tmp_path / "out")


def test_an_unknown_split_is_not_guessed(tmp_path: Path) -> None:
    flickr30k(tmp_path / "in")
    karpathy(tmp_path / "in" / "dataset_flickr30k.json", [("1000.jpg", "dev", ["A dog."])])
    with pytest.raises(TableError, match=r"`split` must be one of train, restval, val, test; got dev\."):
        prepare("flickr30k", tmp_path / "in", tmp_path / "out")
