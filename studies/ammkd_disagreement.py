"""A teacher that is wrong about a part of the images: stored features permuted within clusters of captions.

The captions' embeddings of another teacher are put into clusters by k-means. In half of the clusters, drawn
by a seed, the teacher's rows change places within their cluster: images with images, captions with captions,
each by a permutation of its own. An image belongs to the cluster whose centre is nearest to the mean of its
captions. So the teacher still knows roughly what an image of such a cluster is about, and is wrong about
which it is.
"""

from hashlib import sha256
from typing import Final

import numpy as np
from sklearn.cluster import KMeans

from meddistill.data.keys import text_keys
from meddistill.features.config import ExtractOptions
from meddistill.features.reader import FeatureStore, table_of
from meddistill.features.rows import Indices
from meddistill.features.writer import StoreWriter
from meddistill.recipes.session import Session
from meddistill.signals import TOWERS, Tower
from meddistill.teachers.card import DERIVED

CLUSTERS, PERMUTED, SEED = 10, 5, 0
DISAGREEMENT: Final = f"{PERMUTED} of {CLUSTERS} clusters permuted, seed {SEED}"


def write_disagreeing(session: Session, name: str, *, of: str, clusters_of: str) -> None:
    """Write `of` with permuted train rows as `name` into the session's store, or what is missing of it."""
    store = FeatureStore.open(session.folder.features)
    places = _permuted_rows(store, session, clusters_of)
    identity = sha256(f"{store.card(of).fingerprint} {DISAGREEMENT}".encode()).hexdigest()
    card = store.card(of).model_copy(update={"id": name, "kind": DERIVED, "weights_sha256": identity})
    outputs = store.outputs(of)
    layouts = {tower: outputs[tower].model_copy(update={"shards": ()}) for tower in TOWERS}
    options = ExtractOptions(shard_rows=store.manifest.shard_rows, batch_size=1)
    with StoreWriter.open(store.path, store.manifest.settings, options) as writer:
        writer.replace(name, card, dict(layouts))
        for tower, layout in layouts.items():
            ask = (name, tower)
            for span in writer.claimed(table_of(tower, layout), writer.missing(*ask), [ask]):
                with writer.draft(*ask, span) as draft:
                    draft.append(store.read(of, tower, places[tower][slice(*span)]))
                    writer.enter(table_of(tower, layout), span, {ask: draft})
        writer.summarize(name)


def _permuted_rows(store: FeatureStore, session: Session, clusters_of: str) -> dict[Tower, Indices]:
    """For every row of the store the row whose features it is given."""
    images = store.image_rows(session.image_keys)
    texts = store.text_rows(text_keys(session.samples))
    distinct_images, of_image = np.unique(images, return_inverse=True)
    captions = np.asarray(store.read(clusters_of, "text", texts), dtype=np.float32)
    captions /= np.linalg.norm(captions, axis=1, keepdims=True)
    distinct_texts, first = np.unique(texts, return_index=True)
    kmeans = KMeans(CLUSTERS, n_init=3, random_state=SEED).fit(captions[first])
    means = np.zeros((len(distinct_images), captions.shape[1]), dtype=np.float32)
    np.add.at(means, of_image, captions)
    means /= np.bincount(of_image)[:, None]
    generator = np.random.default_rng(SEED)
    chosen = generator.permutation(CLUSTERS)[:PERMUTED]
    found: dict[Tower, Indices] = {}
    towers: list[tuple[Tower, Indices, Indices]] = [
        ("image", distinct_images, kmeans.predict(means)),
        ("text", distinct_texts, kmeans.labels_),
    ]
    for tower, rows, clusters in towers:
        places = np.arange(store.manifest.rows("images" if tower == "image" else "texts"))
        for cluster in chosen:
            members = rows[clusters == cluster]
            places[members] = generator.permutation(members)
        found[tower] = places
    return found
