"""The catalogue of known sets, and the verbs over it."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from known_checks import check_suite, picture

from meddistill.cli import main
from meddistill.data.known.catalogue import KnownSet, find_set, known_sets
from meddistill.data.known.prepare import prepare
from meddistill.errors import ConfigError
from meddistill.licences import KNOWN

SETS = dict(known_sets())


def test_the_sets_are_there() -> None:
    assert set(SETS) == {
        "medmnist", "vqa_rad", "slake", "path_vqa", "vqa_med_2019", "roco", "iu_xray", "chexpert_5x200",
        "tcga", "lc25000", "patch_camelyon", "ham10000", "flickr30k", "mscoco",
    }  # fmt: skip


@pytest.mark.parametrize("key", sorted(SETS))
def test_entries_agree_with_themselves(key: str) -> None:
    known = SETS[key]
    assert known.terms in KNOWN.values()
    assert known.licence != "unknown" or known.licence_note
    assert callable(import_module(f"meddistill.data.known.{known.preparer}").draft)
    assert "://" not in known.source + known.access + known.licence_note


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    assert isinstance(find_set("slake"), KnownSet)
    with pytest.raises(ConfigError, match=r"got 'slak'\. Did you mean `slake`\?"):
        find_set("slak")


def test_reading_the_catalogue_loads_no_torch() -> None:
    code = (
        "import sys; from meddistill.data.known.catalogue import known_sets; known_sets();"
        "assert not {'torch', 'pyarrow', 'PIL', 'h5py'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_list_and_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets", "list"]) == 0
    listed = capsys.readouterr().out
    for key in SETS:
        assert key in listed
        assert main(["datasets", "show", key]) == 0
        shown = capsys.readouterr().out
        assert SETS[key].name in shown
        assert f"meddistill datasets prepare {key} --from data/sources/{key} --out data/{key}" in shown
    assert main(["datasets", "show", "nothing"]) == 2
    assert "a known data set must be one of medmnist" in capsys.readouterr().err


def lc25000(folder: Path) -> Path:
    for number, label in enumerate(("lung_aca", "lung_n", "lung_scc", "colon_aca", "colon_n")):
        picture(folder / f"{label.partition('_')[0]}_image_sets" / label / "1.jpeg", number)
    return folder


def test_prepare_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = lc25000(tmp_path / "in"), tmp_path / "out"
    arguments = ["datasets", "prepare", "lc25000", "--from", str(source), "--out", str(out), "--quiet"]
    assert main(arguments) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{out / 'lc25000.csv'}: 5 rows (test 5)"
    assert (
        said[1]
        == f"{out / 'suite.yaml'}: lc25000_lung_zero_shot (zero_shot), lc25000_colon_zero_shot (zero_shot)"
    )
    assert said[2].startswith("note: no split is published")
    head = (out / "suite.yaml").read_text().splitlines()
    assert head[0] == "# LC25000. Licence: unknown. Open."
    assert main(arguments) == 2
    assert "`--out` must be absent or an empty folder" in capsys.readouterr().err


def test_both_folders_wrong_are_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError) as refused:
        prepare("slake", tmp_path / "none", tmp_path / "out")
    assert len(refused.value.mistakes) == 2
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_the_suite_moves_with_its_images(tmp_path: Path) -> None:
    home = tmp_path / "home"
    lc25000(home / "data" / "sources" / "lc25000")
    (home / "data" / "lc25000").mkdir()  # an empty folder may be there
    prepare("lc25000", home / "data" / "sources" / "lc25000", home / "data" / "lc25000")
    home.rename(tmp_path / "moved")
    content = check_suite(tmp_path / "moved" / "data" / "lc25000")
    assert content["tables"]["lc25000_lung"]["root"] == "../sources/lc25000"


def test_equal_copies_give_equal_bytes(tmp_path: Path) -> None:
    lc25000(tmp_path / "in")
    for name in ("first", "second"):
        prepare("lc25000", tmp_path / "in", tmp_path / name)
    for name in ("lc25000.csv", "suite.yaml"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
