"""All known sets as one suite: joined, and as it comes along."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from known_checks import check_suite
from whole_copies import COPIES, lc25000

from meddistill.cli import main
from meddistill.data.known.catalogue import known_sets
from meddistill.data.known.join import join
from meddistill.data.known.prepare import prepare
from meddistill.errors import ConfigError
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.recipes.load import PACKAGED

PACKAGED_SUITE = PACKAGED / "suites" / "mmkd_clip_families.yaml"
GUIDE = Path(__file__).resolve().parents[3] / "docs" / "datasets.md"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with every set, prepared by the command that `datasets show` prints."""
    folder = tmp_path_factory.mktemp("home")
    assert set(COPIES) == set(known_sets())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for key, make in COPIES.items():
            make(folder / "data" / "sources" / key)
            assert main([*known_sets()[key].command().split()[1:], "--quiet"]) == 0
    return folder


def test_every_prepared_suite_is_read(home: Path) -> None:
    for key in COPIES:
        check_suite(home / "data" / key)


def test_the_packaged_suite_is_what_preparing_gives(home: Path) -> None:
    content: dict[str, Any] = yaml.safe_load(PACKAGED_SUITE.read_text(encoding="utf-8"))
    medical = [key for key in COPIES if "photograph" not in known_sets()[key].modalities]
    join([home / "data" / key for key in medical], home / "mmkd_clip_families.yaml")
    joined = check_suite_file(home / "mmkd_clip_families.yaml")
    assert content["tables"] == joined["tables"]
    by_name = {task["name"]: task for task in content["tasks"]}
    assert len(by_name) == len(content["tasks"])
    assert by_name == {task["name"]: task for task in joined["tasks"]}
    SuiteConfig.model_validate(content)


def test_the_packaged_retrieval_suite_is_what_preparing_gives(home: Path) -> None:
    """Flickr30K and MSCOCO, as papers on retrieval report them."""
    content: dict[str, Any] = yaml.safe_load((PACKAGED / "suites" / "ammkd.yaml").read_text())
    join([home / "data" / key for key in ("flickr30k", "mscoco")], home / "ammkd.yaml")
    joined = check_suite_file(home / "ammkd.yaml")
    assert {key: content[key] for key in ("tables", "tasks")} == {
        key: joined[key] for key in ("tables", "tasks")
    }


def check_suite_file(path: Path) -> dict[str, Any]:
    """A suite under another name than `suite.yaml`, through the same checks."""
    (path.parent / "suite.yaml").write_bytes(path.read_bytes())
    return check_suite(path.parent)


def test_the_six_families_are_in_it() -> None:
    content = yaml.safe_load(PACKAGED_SUITE.read_text(encoding="utf-8"))
    assert {task["kind"] for task in content["tasks"]} == {
        "zero_shot", "zero_shot_multilabel", "linear_probe", "linear_probe_multilabel", "knn", "retrieval",
        "vqa_closed_set", "vqa_zero_shot", "survival", "bag_classification",
    }  # fmt: skip
    assert sum(line.startswith("  # ") for line in PACKAGED_SUITE.read_text().splitlines()) == 6


def test_paths_of_a_joined_suite_start_at_its_folder(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "suites" / "both.yaml"
    assert (
        main(
            [
                "datasets",
                "join",
                str(home / "data" / "lc25000"),
                str(home / "data" / "tcga"),
                "--out",
                str(out),
            ]
        )
        == 0
    )
    content = check_suite_file(out)
    assert content["name"] == "both"
    stored = next(task["stored"] for task in content["tasks"] if "stored" in task)
    assert (out.parent / stored["uni_v1"]).is_dir()


def test_what_cannot_be_joined(tmp_path: Path) -> None:
    lc25000(tmp_path / "in")
    for name in ("first", "second"):
        prepare("lc25000", tmp_path / "in", tmp_path / name)
    out = tmp_path / "both.yaml"
    with pytest.raises(ConfigError, match=r"`lc25000_lung` is in two of them"):
        join([tmp_path / "first", tmp_path / "second"], out)
    assert not out.exists()
    out.write_text("mine")
    with pytest.raises(ConfigError) as refused:
        join([tmp_path / "first", tmp_path / "none"], out)
    assert len(refused.value.mistakes) == 2
    assert out.read_text() == "mine"


def test_the_guide_lists_every_set_with_its_terms() -> None:
    lines = GUIDE.read_text(encoding="utf-8").splitlines()
    for key, known in known_sets().items():
        line = next(each for each in lines if each.startswith(f"| `{key}` |"))
        for said in (known.name, known.licence, known.access, *known.tasks):
            assert said in line
        assert line.endswith("| yes |" if known.verified else "| no |")
