"""What the sets of captions have in common: the draft of a retrieval task."""

from meddistill.data.known import tasks
from meddistill.data.known.draft import Draft, DraftTable, Row, by_split
from meddistill.data.known.repeats import without_repeats


def caption_draft(
    name: str, rows: list[Row], *, dataset: tuple[str, ...], notes: list[str], patients: bool
) -> Draft:
    """Pairs of image and `text` and a test on retrieval; pairs without a caption are left out and counted."""
    there = [row for row in rows if row["text"].strip()]
    if len(there) < len(rows):
        notes.append(f"{len(rows) - len(there)} images without a caption left out")
    kept = without_repeats(there, ("image", "text"), what="pairs", notes=notes)
    if not patients:
        notes.append("no patients are known: intervals count every image as a patient")
    roles = {"image": "image", "text": "text", "modality": "modality"}
    roles |= {"patient": "patient"} if patients else {}
    views = by_split(name, kept)
    made = Draft(notes=notes)
    made.tables.append(DraftTable(name=name, rows=kept, views=views, roles=roles))
    if f"{name}_test" in views:
        made.tasks.append(tasks.retrieval(name, f"{name}_test", dataset=dataset))
    return made
