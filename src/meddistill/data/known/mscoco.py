"""MSCOCO captions in Karpathy's splits: 123,287 photographs, 5,000 of them to be evaluated."""

from meddistill.data.known.draft import Draft
from meddistill.data.known.karpathy import karpathy_draft
from meddistill.data.known.source import Source


def draft(source: Source) -> Draft:
    """Captions, a retrieval task among the 5,000 test images (5k) and one in each fifth of them (1k)."""
    folder = "." if source.first("val2014") is not None else "images"
    return karpathy_draft(source, "dataset_coco.json", images=(folder,), dataset=("MSCOCO",), folds=5)
