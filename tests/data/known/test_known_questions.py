"""Sets of questions: VQA-RAD in three layouts, SLAKE, PathVQA, VQA-Med 2019."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from known_checks import check_suite, kinds, picture, rows

from meddistill.data.known.prepare import prepare
from meddistill.errors import ConfigError, TableError


def rad(image: str, question: str, answer: object, phrase: str = "freeform", **other: str) -> dict[str, Any]:
    record = {"image_name": image, "question": question, "answer": answer, "phrase_type": phrase}
    stated = {"answer_type": "CLOSED ", "question_type": "PRES, ABN", "image_organ": "CHEST"}
    return {**record, **stated, **other}


def write_public(folder: Path, records: list[dict[str, Any]]) -> None:
    for number, name in enumerate(dict.fromkeys(str(record["image_name"]) for record in records)):
        picture(folder / "VQA_RAD Image Folder" / name, number)
    (folder / "VQA_RAD Dataset Public.json").write_text(json.dumps(records))


RECORDS = [
    rad("a.jpg", "Is it large?", "Yes"),
    rad("a.jpg", "is it  LARGE?", "yes"),  # a copy inside training
    rad("a.jpg", "Is it large?", "Yes", "test_freeform"),  # it leaks into the test rows
    rad("a.jpg", "How many?", 2, "para", answer_type="OPEN", question_type="COUNT"),
    rad("b.jpg", "Where?", "left", "test_para", answer_type="OPEN", image_organ="HEAD"),
    rad("c.jpg", "Where?", "right", "freeform", answer_type="OPEN", image_organ="ABD "),
    rad("c.jpg", "Is it cut?", "no", "freeform"),
]


def test_the_authors_json_of_vqa_rad(tmp_path: Path) -> None:
    write_public(tmp_path / "in", RECORDS)
    found = prepare("vqa_rad", tmp_path / "in", tmp_path / "out")
    assert found.tables == {tmp_path / "out" / "vqa_rad.csv": {"train": 3, "test": 2}}
    table = rows(tmp_path / "out" / "vqa_rad.csv")
    assert [(row["question"], row["answer"], row["split"]) for row in table] == [
        ("Is it large?", "Yes", "test"),
        ("How many?", "2", "train"),
        ("Where?", "left", "test"),
        ("Where?", "right", "train"),
        ("Is it cut?", "no", "train"),
    ]
    assert [row["answer_type"] for row in table] == ["closed", "open", "open", "open", "closed"]
    assert [row["question_type"] for row in table] == ["PRES", "COUNT", "PRES", "PRES", "PRES"]
    assert [row["modality"] for row in table] == ["xray", "xray", "", "ct", "xray"]
    assert [row["image_elsewhere"] for row in table] == ["no", "yes", "no", "no", "no"]
    said = "2 image-question-answer triplets left out of training or validation: they are tested as well"
    assert said in found.notes
    assert "as published, 1 images have questions in several splits" in found.notes
    content = check_suite(tmp_path / "out")
    assert list(kinds(content)) == [
        "vqa_rad_closed_set", "vqa_rad_ranking", "vqa_rad_new_images_closed_set",
        "vqa_rad_new_images_ranking",
    ]  # fmt: skip
    shared = [task.get("shared_images") for task in content["tasks"]]
    assert shared == ["report", "report", None, None]
    assert content["tables"]["vqa_rad_new_images_train"]["where"] == {
        "split": "train",
        "image_elsewhere": "no",
    }
    assert content["tables"]["vqa_rad_train"]["root"] == "../in"


def test_copies_inside_a_split_are_counted_apart(tmp_path: Path) -> None:
    write_public(tmp_path / "in", [RECORDS[0], RECORDS[1], RECORDS[4], RECORDS[4], RECORDS[5]])
    found = prepare("vqa_rad", tmp_path / "in", tmp_path / "out")
    assert found.tables[tmp_path / "out" / "vqa_rad.csv"] == {"train": 2, "test": 1}
    assert list(found.notes) == ["2 repeated image-question-answer triplets of one split left out"]
    assert len(check_suite(tmp_path / "out")["tasks"]) == 2


def test_the_two_files_of_later_code(tmp_path: Path) -> None:
    base = tmp_path / "in"
    for number, name in enumerate(("a.jpg", "b.jpg")):
        picture(base / "images" / name, number)
    (base / "trainset.json").write_text(json.dumps([rad("a.jpg", "Is it?", "yes", "test_freeform")]))
    (base / "testset.json").write_text(json.dumps([rad("b.jpg", "Is it?", "no")]))
    prepare("vqa_rad", base, tmp_path / "out")
    table = rows(tmp_path / "out" / "vqa_rad.csv")
    assert [(row["image"], row["split"]) for row in table] == [
        ("images/a.jpg", "train"),
        ("images/b.jpg", "test"),
    ]
    check_suite(tmp_path / "out")


def parquet(path: Path, records: list[tuple[bytes, str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": content, "path": "x.jpg"} for content, *_ in records]
    table = {"image": images, "question": [r[1] for r in records], "answer": [r[2] for r in records]}
    pq.write_table(pa.table(table), path)


def test_the_hugging_face_copies(tmp_path: Path) -> None:
    first, second, third = (picture(tmp_path / f"{n}.jpg", n).read_bytes() for n in range(3))
    base = tmp_path / "in" / "data"
    train = [(first, "a?", "yes"), (second, "b?", "left"), (third, "c?", "No"), (third, "c?", "No")]
    parquet(base / "train-00000-of-00001-ab.parquet", train)
    parquet(base / "test-00000-of-00001-cd.parquet", [(first, "d?", "no"), (second, "b?", "left")])
    found = prepare("vqa_rad", tmp_path / "in", tmp_path / "out")
    assert found.tables[tmp_path / "out" / "vqa_rad.csv"] == {"train": 2, "test": 2}
    table = rows(tmp_path / "out" / "vqa_rad.csv")
    assert [row["answer_type"] for row in table] == ["closed", "closed", "closed", "open"]
    assert (tmp_path / "out" / table[0]["image"]).read_bytes() == first
    assert table[0]["image"] == table[2]["image"]
    check_suite(tmp_path / "out")
    with pytest.raises(ConfigError, match=r"must hold validation-\*\.parquet"):
        prepare("path_vqa", tmp_path / "in", tmp_path / "other")
    parquet(base / "validation-00000-of-00001-ef.parquet", [(third, "e?", "no")])
    prepare("path_vqa", tmp_path / "in", tmp_path / "other")
    assert {row["modality"] for row in rows(tmp_path / "other" / "path_vqa.csv")} == {"histology"}
    check_suite(tmp_path / "other")


def test_a_parquet_file_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"question": ["a"], "answer": ["b"]}), tmp_path / "in" / "test-0.parquet")
    with pytest.raises(TableError, match=r"must have the columns image"):
        prepare("vqa_rad", tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "test-0.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(TableError, match=r"must be readable Parquet"):
        prepare("vqa_rad", tmp_path / "in", tmp_path / "out")


def test_a_missing_image_is_refused_or_counted(tmp_path: Path) -> None:
    write_public(tmp_path / "in", RECORDS)
    (tmp_path / "in" / "VQA_RAD Image Folder" / "c.jpg").unlink()
    with pytest.raises(TableError, match=r"2 of 7 rows name one that is not: .*/c\.jpg\. .*--skip-missing"):
        prepare("vqa_rad", tmp_path / "in", tmp_path / "out")
    found = prepare("vqa_rad", tmp_path / "in", tmp_path / "out", skip_missing=True)
    assert "2 of 7 rows left out: their image is not there" in found.notes
    for path in (tmp_path / "in" / "VQA_RAD Image Folder").iterdir():
        path.unlink()
    with pytest.raises(ConfigError, match=r"its images \(.* is the first\)"):
        prepare("vqa_rad", tmp_path / "in", tmp_path / "again", skip_missing=True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}", "must hold a list of records"),
        ("[", "must be JSON; got text that is no JSON"),
        ("[]", "must have rows; got none"),
        (json.dumps([{"image_name": "a.jpg"}]), r"`question` must be there in every row; rows 1 lack it"),
    ],
)
def test_json_of_another_kind(tmp_path: Path, content: str, said: str) -> None:
    picture(tmp_path / "in" / "images" / "a.jpg")
    (tmp_path / "in" / "VQA_RAD Dataset Public.json").write_text(content)
    with pytest.raises(TableError, match=said):
        prepare("vqa_rad", tmp_path / "in", tmp_path / "out")


def slake(image: str, question: str, answer: str, language: str = "en") -> dict[str, Any]:
    return {
        "img_name": image, "question": question, "answer": answer, "q_lang": language, "modality": "X-Ray",
        "location": "Lung", "answer_type": "OPEN", "content_type": "Organ", "qid": 1,
    }  # fmt: skip


@pytest.mark.parametrize(("top", "validation"), [("", "validate"), ("Slake1.0", "validation")])
def test_slake(tmp_path: Path, top: str, validation: str) -> None:
    base = tmp_path / "in" / top
    for number in range(3):
        picture(base / "imgs" / f"xmlab{number}" / "source.jpg", number)
    files = {
        "train": [slake("xmlab0/source.jpg", "Which organ?", "Lung"),
                  slake("xmlab0/source.jpg", "哪个器官?", "肺", "zh")],
        validation: [slake("xmlab1/source.jpg", "Which organ?", "Heart")],
        "test": [slake("xmlab2/source.jpg", "Which organ?", "Lung")],
    }  # fmt: skip
    for name, records in files.items():
        (base / f"{name}.json").write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
    found = prepare("slake", tmp_path / "in", tmp_path / "out")
    assert found.tables[tmp_path / "out" / "slake.csv"] == {"train": 2, "validation": 1, "test": 1}
    table = rows(tmp_path / "out" / "slake.csv")
    assert [(row["patient"], row["language"], row["modality"]) for row in table[:2]] == [
        ("xmlab0", "en", "xray"),
        ("xmlab0", "zh", "xray"),
    ]
    content = check_suite(tmp_path / "out")
    assert all(each["where"]["language"] == "en" for each in content["tables"].values())
    assert [task.get("shared_images") for task in content["tasks"]] == [None, None]
    assert "1 questions are not in English: they stand in the table, no task takes them" in found.notes


def test_slake_lists_all_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "train.json").write_text("[]")
    with pytest.raises(ConfigError) as refused:
        prepare("slake", tmp_path / "in", tmp_path / "out")
    said = str(refused.value)
    for name in ("validate.json", "test.json", "imgs/xmlab<number>/source.jpg", "The layout that is read"):
        assert name in said
    assert "`--from` must hold train.json" not in said
    # The layout is what helps, and no mistake that is counted.
    assert not any("layout" in mistake for mistake in refused.value.mistakes)


def test_vqa_med_2019(tmp_path: Path) -> None:
    base = tmp_path / "in"
    training, validation = (
        base / "ImageClef-2019-VQA-Med-Training",
        base / "ImageClef-2019-VQA-Med-Validation",
    )
    test = base / "VQAMed2019Test"
    for number, path in enumerate(
        (training / "Train_images", validation / "Val_images", test / "VQAMed2019_Test_Images")
    ):
        picture(path / f"synpic{number}.jpg", number)
    (training / "All_QA_Pairs_train.txt").write_text(
        "synpic0|is this a t1 image?|no\nsynpic0|what plane?|axial\n"
    )
    (training / "QAPairsByCategory").mkdir()
    (training / "QAPairsByCategory" / "C2_Plane_train.txt").write_text("synpic0|what plane?|axial\n")
    (validation / "All_QA_Pairs_val.txt").write_text("synpic1|what plane?|sagittal\n")
    answers = test / "VQAMed2019_Test_Questions_w_Ref_Answers.txt"
    answers.write_text("synpic2|modality|how was it made?|ct with contrast#ct\n")
    found = prepare("vqa_med_2019", base, tmp_path / "out")
    table = rows(tmp_path / "out" / "vqa_med_2019.csv")
    assert [(row["question_type"], row["answer"], row["answer_type"], row["split"]) for row in table] == [
        ("", "no", "closed", "train"),
        ("plane", "axial", "open", "train"),
        ("", "sagittal", "open", "validation"),
        ("modality", "ct with contrast", "open", "test"),
    ]
    assert "1 test questions have several right answers, of which the first counts" in found.notes
    check_suite(tmp_path / "out")
    answers.write_text("synpic2|modality|how was it made?\n")
    with pytest.raises(TableError, match=r"line 1 must have 4 fields separated by \|; got 3"):
        prepare("vqa_med_2019", base, tmp_path / "other")
