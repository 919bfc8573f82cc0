"""A recipe whose tables are tar shards: the run of the loose files, number for number."""

import csv
import io
import json
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import recipe_data
from meddistill.cli import main
from meddistill.data.dataset import SampleDataset
from recipe_data import LIGHT, digests, do_run, hashes, write_yaml

ROWS_A_SHARD = 50
WEIGHTS = "open_clip_model.safetensors"


def _write(path: Path, rows: Sequence[Mapping[str, str]], images: Path) -> None:
    with tarfile.open(path, "w:") as tar:
        for number, row in enumerate(rows):
            fields = {name: cell for name, cell in row.items() if name not in {"image", "text"}}
            image = images / row["image"]
            files = {image.suffix[1:]: image.read_bytes(), "json": json.dumps(fields).encode()}
            if "text" in row:
                files["txt"] = row["text"].encode()
            for kind, content in files.items():
                member = tarfile.TarInfo(f"{path.stem}/{number:06d}.{kind}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def _into_shards(world: Path) -> dict[str, Any]:
    """The world's tables as shards and its recipe with them; the loose images are gone."""
    data = world / "data"
    for table in ("pairs", "classification"):
        with (data / f"{table}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        kept = [row for row in rows if row.get("task", "modality") == "modality"]
        for start in range(0, len(kept), ROWS_A_SHARD):
            name = f"{table}-{start // ROWS_A_SHARD:03d}.tar"
            _write(data / name, kept[start : start + ROWS_A_SHARD], data)
        (data / f"{table}.csv").unlink()
    shutil.rmtree(data / "images")
    recipe, suite = recipe_data.recipe(), recipe_data.suite()
    recipe["data"]["train"] |= {"table": "data/pairs-{000..002}.tar", "text": "txt", "index": "index"}
    for name, table in suite["tables"].items():
        of = "pairs" if name == "pairs" else "classification"
        table |= {"table": f"data/{of}-*.tar"}
        if "text" in table:
            table["text"] = "txt"
    write_yaml(world / "suite.yaml", suite)
    return recipe


def test_a_run_on_shards_is_the_run_on_loose_files(
    own_world: Path, own_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, student = digests(own_run / "features" / "teachers"), hashes(own_run / "student")[WEIGHTS]
    results = json.loads((own_run / "evaluation" / "results.json").read_text())
    recipe = write_yaml(own_world, _into_shards(own_world.parent))
    assert main(["check", str(recipe)]) == 0
    capsys.readouterr()

    with monkeypatch.context() as patch:
        _break_after(patch, batches=3)
        with pytest.raises(RuntimeError, match="planned"):
            do_run(recipe, own_run, LIGHT)
    diary = do_run(recipe, own_run, LIGHT)
    assert any(line.startswith("Going on after step ") for line in diary.said), diary.said

    assert digests(own_run / "features" / "teachers") == before, "a teacher was asked again"
    assert hashes(own_run / "student")[WEIGHTS] == student
    again = json.loads((own_run / "evaluation" / "results.json").read_text())
    assert again["results"] == results["results"]


def _break_after(patch: pytest.MonkeyPatch, *, batches: int) -> None:
    count = 0
    batch = SampleDataset.batch

    def breaking(self: SampleDataset, *request: Any) -> Any:
        nonlocal count
        count += 1
        if count > batches:
            msg = "planned"
            raise RuntimeError(msg)
        return batch(self, *request)

    patch.setattr(SampleDataset, "batch", breaking)


def test_bad_shards_are_told_with_all_other_mistakes(
    own_world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = _into_shards(own_world.parent)
    content["student"] = {"image_tower": "test_resnett", "image_size": 32}
    shard = own_world.parent / "data" / "pairs-001.tar"
    shard.write_bytes(shard.read_bytes()[:20_000])
    assert main(["check", str(write_yaml(own_world, content))]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "shard pairs-001.tar: the file must be a whole tar; got one that is cut or damaged" in said
    assert "test_resnett" in said
