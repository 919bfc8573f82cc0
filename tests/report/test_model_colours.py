"""Models can be told apart: by colour (also for the colour-blind), dash and shape."""

import itertools
import re
import xml.etree.ElementTree as ET
from importlib.resources import files

import numpy as np
import pytest
from numpy.typing import NDArray
from report_data import report_data, results

from meddistill.evaluation.base.results import ModelFacts, Results
from meddistill.report.markers import line_key, marker
from meddistill.report.models import COLORS, REFERENCE_CSS, model_styles, references
from meddistill.report.write import render

STYLE = (files("meddistill.report") / "templates" / "report.css").read_text(encoding="utf-8")
# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
SIGHTS = {
    "usual": np.eye(3),
    "deuteranopia": np.array(
        [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    ),
    "protanopia": np.array(
        [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    ),
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def _judged(*roles: str, own: bool = False) -> Results:
    """Results of models m0, m1, ... with these roles, and a task's own baseline."""
    models = [
        ModelFacts(name=f"m{place}", role=role, fingerprint="", has_text=True)  # type: ignore[arg-type]
        for place, role in enumerate(roles)
    ]
    if own:
        models.append(
            ModelFacts(name="own", role="baseline", fingerprint="", has_text=False, tasks=("findings",))
        )
    return results().model_copy(update={"models": tuple(models)})


@pytest.mark.parametrize(
    "roles", [["baseline"] * 9, ["student"] + ["teacher"] * 9, ["student"] + ["baseline"] * 3]
)
def test_no_two_models_have_one_colour(roles: list[str]) -> None:
    found = model_styles(_judged(*roles))
    assert len({style.css for style in found}) == len(roles)
    defined = set(re.findall(r"\.(c-\w+) \{ --c:", STYLE))
    assert {style.css.split()[0] for style in found} <= defined


def test_roles_can_be_read() -> None:
    found = {
        style.name: style.css for style in model_styles(_judged("student", "baseline", "ensemble", "teacher"))
    }
    assert found == {"m0": "c-student", "m3": "c-t0", "m1": "c-t1 c-baseline", "m2": "c-ensemble"}
    # Where all are there for comparison, none is set apart.
    assert [style.css for style in model_styles(_judged("baseline", "baseline"))] == ["c-student", "c-t0"]
    (own,) = references(_judged("student", own=True), "findings")
    assert (own.name, own.css) == ("own", REFERENCE_CSS)
    assert references(_judged("student", own=True), "retrieval") == ()


def test_more_models_than_colours_differ_in_their_dashes() -> None:
    found = model_styles(_judged(*["teacher"] * (COLORS + 2)))
    assert [style.css for style in found[:2]] == ["c-student", "c-t0"]
    assert found[COLORS + 1].css == "c-t0 c-again"


def test_the_lead_is_the_student_or_the_first_model() -> None:
    assert [(each.name, each.lead) for each in model_styles(_judged("teacher", "baseline", "student"))] == [
        ("m2", True), ("m1", False), ("m0", False),
    ]  # fmt: skip
    styles = model_styles(_judged("teacher", "baseline", "ensemble"))
    assert [style.name for style in styles if style.lead] == ["m0"]
    assert model_styles(_judged("teacher", "baseline"))[0].name == "m0"


def _lab(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    xyz = XYZ @ np.clip(linear, 0, 1) / np.array([0.9505, 1.0, 1.089])
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


def _linear(colour: str) -> NDArray[np.float64]:
    share = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("theme", [0, 1])
@pytest.mark.parametrize("sight", SIGHTS)
def test_colours_of_models_are_apart_for_every_sight(theme: int, sight: str) -> None:
    names = ["student", "ensemble", *(f"t{number}" for number in range(COLORS))]
    found = [re.findall(rf"--{name}: (#\w{{6}});", STYLE)[theme] for name in names]
    places = [_lab(SIGHTS[sight] @ _linear(colour)) for colour in found]
    nearest = min(
        (float(np.linalg.norm(places[one] - places[two])), names[one], names[two])
        for one, two in itertools.combinations(range(len(names)), 2)
    )
    assert nearest[0] > 20, nearest


def test_shapes_go_with_colours() -> None:
    drawn = {
        css: ET.fromstring(marker(css, 5, 5, 3)) for css in ("c-student", "c-t0", "c-t1", "c-t1 c-baseline")
    }
    assert drawn["c-student"].tag == "circle"
    assert drawn["c-t0"].tag == "polygon"
    shape = {css: each.get("points") for css, each in drawn.items()}
    assert shape["c-t0"] != shape["c-t1"] == shape["c-t1 c-baseline"]
    assert ET.fromstring(line_key("c-t3")).find("g").get("class") == "c-t3"  # type: ignore[union-attr]


def test_the_legend_says_what_outlined_bars_are() -> None:
    found = results()
    compared = tuple(
        facts.model_copy(update={"role": "baseline"}) if facts.name == "skin" else facts
        for facts in found.models
    )
    words = "outlined: models for comparison"
    assert words in render(report_data(results=found.model_copy(update={"models": compared})))
    assert words not in render(report_data())
