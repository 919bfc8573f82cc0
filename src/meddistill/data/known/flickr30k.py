"""Flickr30K in Karpathy's splits: 31,014 photographs, 1,000 of them to be evaluated."""

from meddistill.data.known.draft import Draft
from meddistill.data.known.karpathy import karpathy_draft
from meddistill.data.known.source import Source


def draft(source: Source) -> Draft:
    """Captions and one retrieval task, among the 1,000 test images (1k)."""
    images = ("flickr30k-images", "flickr30k_images", "images")
    return karpathy_draft(source, "dataset_flickr30k.json", images=images, dataset=("Flickr30K",))
