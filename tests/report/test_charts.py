"""Charts are well-formed SVG whose marks stand where the numbers say."""

import xml.etree.ElementTree as ET

import pytest

from meddistill.report.charts import Group, Mark, Series, forest, grouped_bars, lines
from meddistill.report.svg import Axis, span, ticks


def mark(label: str, value: float | None, *, role: str = "teacher") -> Mark:
    low, high = (None, None) if value is None else (value - 0.1, value + 0.1)
    return Mark(label=label, css="c-t0", role=role, value=value, low=low, high=high, lead=role == "student")  # type: ignore[arg-type]


def test_forest_orders_models_by_position() -> None:
    marks = [mark("student <b>", 0.8, role="student"), mark("worse", 0.4), mark("absent", None)]
    root = ET.fromstring(
        forest(marks, {"worse": mark("worse", 0.4)}, label="scores", title="Student minus this model")
    )
    dot = next(each for each in root.iter("circle"))
    boxes = list(root.iter("rect"))
    assert float(dot.attrib["cx"]) > float(boxes[0].attrib["x"]) + 5
    assert "student <b>" in "".join(root.itertext())
    assert "not applicable" in "".join(root.itertext())


def test_bars_are_as_long_as_their_values() -> None:
    groups = [Group(title="ct", note="n = 3", marks=(mark("a", 0.2), mark("b", 0.4), mark("c", None)))]
    root = ET.fromstring(grouped_bars(groups, label="bars"))
    widths = [float(each.attrib["width"]) for each in root.iter("rect")]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.11)
    assert len(widths) == 2


def test_lines_leave_gaps_open() -> None:
    series = [Series(label="loss", css="c-student", values=(1.0, 2.0, None, 3.0))]
    root = ET.fromstring(lines([1, 2, 3, 4], series, label="curve"))
    assert len(list(root.iter("polyline"))) == 2
    assert len(list(root.iter("circle"))) == 1


@pytest.mark.parametrize("values", [[0.3], [0.0, 0.0], [-2.0, 5.0], [1e-6, 2e-6], [1e5, 9e5], []])
def test_axes_of_any_numbers(values: list[float]) -> None:
    low, high = span(values)
    assert low < high
    assert all(low <= value <= high for value in values)
    marks = ticks(low, high, 4)
    assert all(low <= value <= high for value in marks)
    axis = Axis(low=low, high=high, start=10, end=110)
    assert axis(low) == pytest.approx(10)
    assert axis(high) == pytest.approx(110)


@pytest.mark.parametrize("values", [(0.5, 0.5), (3.0, 1.0), (2.31, 2.34), (0.0, 0.0), (-7.0, 120.0)])
@pytest.mark.parametrize("zero", [True, False])
def test_axes_of_curves_have_a_label_at_both_ends(values: tuple[float, float], zero: bool) -> None:
    chart = lines((1, 2), [Series(label="a", css="c-t0", values=values)], label="x", zero=zero)
    root = ET.fromstring(chart)
    heights = [float(each.attrib["y1"]) for each in root.iter("line") if each.get("class") == "grid"]
    (curve,) = [each.attrib["points"] for each in root.iter("polyline")]
    drawn = [float(point.split(",")[1]) for point in curve.split()]
    assert len(heights) >= 2
    assert min(heights) <= min(drawn)
    assert max(drawn) <= max(heights)


def test_long_names_of_groups_wrap_and_make_room() -> None:
    name = "Royal Victoria Infirmary of the North"
    marks = (mark("a", 0.2),)
    groups = [Group(title=name, note="n = 3 patients", marks=marks), Group(title="ct", note="", marks=marks)]
    column = [groups[0], groups[0], groups[1], groups[1]]  # two in a column
    root = ET.fromstring(grouped_bars(column, label="bars"))
    lines_of = [each for each in root.iter("text") if each.get("class") == "strong"]
    told = [each.text for each in lines_of[:3]]
    assert " ".join(str(each) for each in told) == name
    heights = [float(each.attrib["y"]) for each in lines_of]
    note = next(float(each.attrib["y"]) for each in root.iter("text") if each.text == "n = 3 patients")
    assert heights[:3] == sorted(heights[:3])
    assert heights[2] < note < heights[3]
