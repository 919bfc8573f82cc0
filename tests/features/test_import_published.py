"""Published features become a store: same numbers, same keys, nothing run, all damage told at once."""

import csv
import json
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from meddistill.data.keys import image_keys, text_keys
from meddistill.data.samples import Samples
from meddistill.errors import TableError
from meddistill.features.config import ExtractOptions
from meddistill.features.importing import importer
from meddistill.features.importing.importer import import_published
from meddistill.features.verify import verify
from meddistill.imaging import ImageRef
from published_features import DIMS, PROJECTED, Published, publish
from toy_features import tree

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return publish(tmp_path / "published")


def samples_of(published: Published) -> Samples:
    lines = published.lines
    return Samples(
        refs=tuple(ImageRef(published.sample(place) / "figure.png") for place in range(len(lines))),
        texts=tuple(line["txt"] for line in lines),
    )


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 2e-3), ("float32", 0.0)])
def test_values_are_those_of_the_files(
    published: Published, tmp_path: Path, projected: bool, precision: str, tolerance: float
) -> None:
    found = import_published(published.folder, tmp_path / "store", projected=projected, precision=precision)
    store, samples = found.store, samples_of(published)
    assert set(store.teachers) == set(DIMS)
    assert (store.missing("BMCA"), verify(store.path).damages) == ({}, ())
    images, texts = store.image_rows(image_keys(samples)), store.text_rows(text_keys(samples))
    assert images.min() >= 0
    assert texts.min() >= 0
    assert images[-1] == images[0]
    files = published.projected if projected else published.raw
    for place, vectors in enumerate(files[:-1]):
        for teacher in DIMS:
            width = PROJECTED if projected else DIMS[teacher]
            assert store.outputs(teacher)["image"].shape == (width,)
            for output, rows, tower in (("image", images, "img"), ("text", texts, "txt")):
                got = store.read(teacher, output, rows[place : place + 1])[0].astype(np.float32)
                # The first sample lacks QuiltNet and BMCA; the last one, of the same image, has them.
                of = files[-1] if place == 0 and f"{teacher}_img" not in vectors else vectors
                expected = of.get(f"{teacher}_{tower}", torch.zeros(width)).numpy()
                np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


def test_statistics_leave_out_what_is_not_there(published: Published, tmp_path: Path) -> None:
    found = import_published(published.folder, tmp_path / "store", precision="float32")
    there = [vectors["BMCA_img"].numpy() for vectors in published.raw if "BMCA_img" in vectors]
    found_mean = found.store.statistics("BMCA")["image"]
    assert found_mean.count == len(there)
    np.testing.assert_allclose(found_mean.mean, np.mean(there, axis=0), atol=1e-6)


def test_the_table_lists_the_teachers_of_each_row(published: Published, tmp_path: Path) -> None:
    found = import_published(published.folder, tmp_path / "store")
    with found.table.path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == [line["txt"] for line in published.lines]
    assert [row["teachers"].split("|") for row in rows] == [
        line["available_clips"] for line in published.lines
    ]
    assert all((published.folder / row["image"]).is_file() for row in rows)
    assert (found.table.rows, found.table.left_out) == (len(published.lines), 0)


def test_cards_tell_what_is_known(published: Published, tmp_path: Path) -> None:
    store = import_published(published.folder, tmp_path / "store").store
    known, unheard = store.card("BiomedCLIP"), store.card("Unheard")
    assert known.source == "BiomedCLIP"
    assert known.licence.name == "MIT"
    assert known.pretraining_data
    assert unheard.licence.name == "unknown"
    other = import_published(published.folder, tmp_path / "other", projected=True).store
    assert other.card("BMCA").fingerprint != store.card("BMCA").fingerprint


class _Runs:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("run.txt"),))


def test_pickles_are_never_run(published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"BMCA_img": _Runs()}, published.sample(5) / "clips_output.pt")
    (published.sample(7) / "clips_output.pt").write_bytes(pickle.dumps(_Runs()))
    with pytest.raises(TableError) as caught:
        import_published(published.folder, tmp_path / "store")
    assert not (tmp_path / "run.txt").exists()
    assert len(caught.value.mistakes) == 2
    assert all("would run code" in line for line in caught.value.mistakes)


def damage(published: Published) -> dict[int, str]:
    """Six kinds; the rule that each breaks by its line."""
    vectors = dict(published.raw[1])
    (published.sample(1) / "clips_output.pt").unlink()
    whole = (published.sample(2) / "clips_output.pt").read_bytes()
    (published.sample(2) / "clips_output.pt").write_bytes(whole[: len(whole) // 2])
    torch.save([1.0], published.sample(10) / "clips_output.pt")
    torch.save({"BMCA_img": torch.ones(24)}, published.sample(11) / "clips_output.pt")
    broken = {**published.raw[13], "BiomedCLIP_txt": torch.full((16,), torch.nan)}
    torch.save(broken, published.sample(13) / "clips_output.pt")
    torch.save({**vectors, "BMCA_img": torch.ones(23)}, published.sample(17) / "clips_output.pt")
    return {
        2: "it is missing",
        3: "whole file of weights",
        11: "a dict of vectors",
        12: "stands in available_clips",
        14: "one finite vector",
        18: "must have dims (24, 24)",
    }


def test_damage_is_told_at_once_without_names_and_can_be_mended(published: Published, tmp_path: Path) -> None:
    expected = damage(published)
    with pytest.raises(TableError) as caught:
        import_published(published.folder, tmp_path / "store")
    told = {int(line.split()[1]): line for line in caught.value.mistakes}
    assert told.keys() == expected.keys()
    for line, words in expected.items():
        assert words in told[line]
    assert "PMC" not in str(caught.value).replace(str(published.folder), "")
    assert "patient" not in str(caught.value)
    for place, vectors in enumerate(published.raw):
        torch.save(vectors, published.sample(place) / "clips_output.pt")
    mended = import_published(published.folder, tmp_path / "store")
    fresh = import_published(published.folder, tmp_path / "fresh")
    assert tree(mended.store.path) == tree(fresh.store.path)


def test_damaged_samples_can_be_left_out(published: Published, tmp_path: Path) -> None:
    damage(published)
    found = import_published(published.folder, tmp_path / "store", on_damage="skip")
    assert len(found.skipped) == 6
    assert found.table.left_out == 6
    with found.table.path.open(newline="") as file:
        texts = {row["text"] for row in csv.DictReader(file)}
    assert published.lines[1]["txt"] not in texts
    assert published.lines[4]["txt"] in texts


def test_an_interrupted_import_goes_on(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer, "ExtractOptions", partial(ExtractOptions, shard_rows=8, batch_size=8))
    read, calls = importer.read_vectors, []

    def failing(sample: object, file: str) -> dict:
        calls.append(sample)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return read(sample, file)

    monkeypatch.setattr(importer, "read_vectors", failing)
    with pytest.raises(KeyboardInterrupt):
        import_published(published.folder, tmp_path / "store")
    broken_off = len(calls)
    import_published(published.folder, tmp_path / "store")
    # Two whole shards of images were there; 48 texts were not.
    assert len(calls) - broken_off < 2 * len(published.lines) - 8
    monkeypatch.setattr(importer, "read_vectors", read)
    import_published(published.folder, tmp_path / "fresh")
    assert tree(tmp_path / "store") == tree(tmp_path / "fresh")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"available_clips": "BMCA"}, "got available_clips"),
        ({"txt": " "}, "a caption"),
        ({"id": "../../.."}, "folder inside"),
        ({"id": "nobody"}, "folder inside"),
        ({"imgpath": "../../secret.png"}, "an image inside"),
        ({"imgpath": None}, "got imgpath"),
    ],
)
def test_lines_that_are_no_rows(published: Published, tmp_path: Path, change: dict, words: str) -> None:
    published.lines[3].update(change)
    published.lines[9].update(change)
    (tmp_path / "secret.png").write_bytes(b"")
    published.write_meta()
    with pytest.raises(TableError) as caught:
        import_published(published.folder, tmp_path / "store")
    assert [line.partition(":")[0] for line in caught.value.mistakes] == ["line 4", "line 10"]
    assert all(words in line for line in caught.value.mistakes)
    assert not (tmp_path / "store").exists()


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"meta\.jsonl"):
        import_published(tmp_path, tmp_path / "store")
    (tmp_path / "meta.jsonl").write_text("[1]\nnot json\n")
    with pytest.raises(TableError) as caught:
        import_published(tmp_path, tmp_path / "store")
    assert len(caught.value.mistakes) == 2


def test_the_verb_prints_what_a_recipe_takes(say: Say, published: Published, tmp_path: Path) -> None:
    code, out, err = say("features", "import", published.folder, "--out", tmp_path / "store", "--projected")
    assert code == 0, err
    assert "48 pairs" in out
    assert "kind: stored" in out
    damage(published)
    code, _, err = say("features", "import", published.folder, "--out", tmp_path / "raw")
    assert code == 2
    assert "6 mistakes" in err
    assert json.loads((tmp_path / "store" / "manifest.json").read_text())["content"]["teachers"]
