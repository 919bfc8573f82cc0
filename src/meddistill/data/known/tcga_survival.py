"""Survival tasks of TCGA: one a project, and one of all of them that compares patients inside projects."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from meddistill.data.known.draft import Entry, Row

NAME: Final = "tcga"
DATASET: Final = ("TCGA",)
LEAST_PATIENTS: Final = 20
LEAST_EVENTS: Final = 10
_LEAST_SITES: Final = 5  # as many as survival tasks have folds unless they say otherwise


def survival(
    rows: Sequence[Row], views: dict[str, dict[str, str]], stored: Mapping[str, str], notes: list[str]
) -> list[Entry]:
    """Tasks for projects of at least 20 patients and 10 deaths, and where there are several one of all these.

    Adds the column `outcome_known` to `rows`, and a view of rows with an outcome to `views`. A copy that
    states no project is taken for one cohort.
    """
    known = [row for row in rows if row["event"]]
    if len(known) < len(rows):
        notes.append(
            f"{len(rows) - len(known)} slides of patients without an outcome stand aside of survival"
        )
    projects = _projects(known, notes)
    if not projects:
        return []
    for row in rows:
        row["outcome_known"] = "yes" if row["event"] else "no"
    views[NAME] = {"outcome_known": "yes"}
    if len(projects) == 1:
        ((project, own),) = projects.items()
        return [_task(own, stored, project=project if len(own) < len(known) else "")]
    tasks = [
        _task(own, stored, project=project, name=f"_{re.sub('[^a-z0-9]+', '_', project.lower())}")
        for project, own in projects.items()
    ]
    together = _task([row for own in projects.values() for row in own], stored)
    return [*tasks, {**together, "where": {"project": list(projects)}, "strata": "project"}]


def _projects(known: Sequence[Row], notes: list[str]) -> dict[str, list[Row]]:
    """Project → its rows, where there are enough; "" where no row states one."""
    by_project: dict[str, list[Row]] = {}
    for row in known:
        by_project.setdefault(row["project"], []).append(row)
    if set(by_project) == {""}:
        notes.append("no project is stated: survival takes all patients for one cohort; is it one?")
    elif "" in by_project:
        notes.append(f"{len(by_project.pop(''))} slides without a project stand aside of survival")
    few = [project for project, own in by_project.items() if not _enough(own)]
    for project in few:
        del by_project[project]
    if few:
        named = ", ".join(sorted(project or "the one cohort" for project in few))
        notes.append(
            f"no survival task for {named}: fewer than {LEAST_PATIENTS} patients or {LEAST_EVENTS} deaths"
        )
    return dict(sorted(by_project.items()))


def _enough(rows: Sequence[Row]) -> bool:
    patients = {row["patient"]: row["event"] for row in rows}
    return len(patients) >= LEAST_PATIENTS and list(patients.values()).count("1") >= LEAST_EVENTS


def _task(rows: Sequence[Row], stored: Mapping[str, str], *, project: str = "", name: str = "") -> Entry:
    clinical = [column for column in ("age", "sex") if any(row[column] for row in rows)]
    entry: Entry = {"name": f"{NAME}_survival{name}", "kind": "survival", "dataset": list(DATASET)}
    if project:
        entry["where"] = {"project": project}
    entry |= {"table": NAME, "time": "time_months", "event": "event", "unit": "months"}
    entry |= {"clinical": clinical, "stored": dict(stored), "slide": "slide"}
    if len({row["site"] for row in rows}) >= _LEAST_SITES:
        entry["site"] = "site"
    return {**entry, "include_in_mean": False}
