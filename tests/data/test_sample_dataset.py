"""Batches of samples: what is in them, and how little is done for them."""

import pickle
import threading

import numpy as np
import pytest
import torch
from batch_checks import STUDENT, TALL, WIDE, assert_same, by_hand

from meddistill.data import dataset as dataset_module
from meddistill.data import keys as keys_module
from meddistill.data import rasters
from meddistill.data.dataset import SampleDataset, token_table
from meddistill.data.keys import image_keys
from meddistill.data.rasters import PixelCache
from meddistill.data.view_rule import ViewRule
from meddistill.imaging import ViewPolicy, decode

GROUPS = ("image_group", "text_group")
TEACHERS = frozenset({WIDE, TALL})
FRESH = ViewRule(policy=ViewPolicy())
CONSISTENT = ViewRule(policy=ViewPolicy(), teacher="consistent")


def tokenize(texts):
    """Bytes of the text, padded: a tokenizer whose rows can be checked by eye."""
    return torch.stack([torch.tensor([*text.encode()[:12].ljust(12, b"\0")]) for text in texts])


class Decodes:
    """Counts decodes by file, from any thread."""

    def __init__(self):
        self.lock = threading.Lock()
        self.names = []

    def __call__(self, ref, options):
        with self.lock:
            self.names.append(ref.path.name)
        return decode(ref, options)

    def taken(self):
        names, self.names = self.names, []
        return sorted(names)


@pytest.fixture
def decodes(monkeypatch):
    counter = Decodes()
    monkeypatch.setattr(rasters, "decode", counter)
    return counter


@pytest.fixture
def repeated(pairs):
    """Positions 0 and 3 are one image; 1 and 4 carry one caption in two spellings."""
    samples = pairs.take([2, 5, 7, 2, 8])
    texts = ("a ct", "An  X-ray", "c", "d", "an x-RAY")
    return samples.__class__(
        refs=samples.refs, texts=texts, modalities=samples.modalities, rows=samples.rows, ids=tuple("vwxyz")
    )


def test_a_batch_is_what_the_table_says(pairs):
    tokens = token_table(pairs.texts, tokenize)
    data = SampleDataset(pairs, student=STUDENT, tokens=tokens, teacher_geometries=TEACHERS)
    rows = [13, 0, 6]
    batch = data.batch(rows, [0, 0, 0])
    assert len(batch) == 3
    assert batch.samples.tolist() == rows
    assert batch.samples.dtype == batch.views.dtype == batch.image_group.dtype == torch.int64
    assert batch.texts == tuple(pairs.texts[row] for row in rows)
    assert batch.modalities == tuple(pairs.modalities[row] for row in rows)
    assert torch.equal(batch.tokens, tokenize(batch.texts).to(torch.int32))
    assert set(batch.teacher_rasters) == TEACHERS
    for shape, stack in {STUDENT: batch.rasters, **batch.teacher_rasters}.items():
        assert stack.dtype == torch.uint8
        assert stack.shape == (3, shape.height, shape.width, 3)
        assert stack.is_contiguous()
        for place, row in enumerate(rows):
            assert np.array_equal(stack[place].numpy(), by_hand(data, row, 0, shape))


def test_batches_without_captions_and_tokens(pairs):
    data = SampleDataset(pairs.__class__(refs=pairs.refs), student=STUDENT)
    batch = data.batch([3, 4], [0, 0])
    assert batch.texts == ()
    assert batch.modalities == ("", "")
    assert batch.tokens.shape == (2, 0)
    assert batch.teacher_rasters == {}
    assert len(set(data.batch(range(20), [0] * 20).text_group.tolist())) == 20


@pytest.mark.parametrize("rule", [ViewRule(), FRESH, CONSISTENT])
def test_an_image_is_decoded_once_whoever_wants_it(repeated, decodes, rule):
    names = sorted({ref.path.name for ref in repeated.refs})
    data = SampleDataset(repeated, student=STUDENT, views=rule, teacher_geometries=TEACHERS)
    rows = [0, 1, 2, 3, 4]
    first = data.batch(rows, data.student_views(rows, seed=0, epoch=0))
    assert decodes.taken() == names, "three geometries and a repeated image: one decode of each"
    data.batch(rows, data.student_views(rows, seed=0, epoch=1))
    assert decodes.taken() == [], "the cache has room"

    forgetful = SampleDataset(
        repeated, student=STUDENT, views=rule, teacher_geometries=TEACHERS, cache_bytes=0
    )
    for _ in range(2):
        assert_same(forgetful.batch(rows, first.views.tolist()), first)
        assert decodes.taken() == names


def test_a_full_cache_changes_no_pixel(pairs, decodes):
    rows = list(range(20))
    roomy, tight = (
        SampleDataset(pairs, student=STUDENT, views=FRESH, teacher_geometries=TEACHERS, cache_bytes=size)
        for size in (10**9, 30_000)
    )
    counts = []
    for epoch in range(3):
        views = roomy.student_views(rows, seed=0, epoch=epoch)
        expected = roomy.batch(rows, views)
        decodes.taken()
        assert_same(tight.batch(rows, views), expected)
        counts.append(len(decodes.taken()))
    assert counts[0] == 20
    assert 0 < counts[1] == counts[2] < 20, "what fitted at first is kept, and nothing else"


def test_the_cache_keeps_grey_pictures_in_a_third():
    grey = np.repeat(np.arange(60, dtype=np.uint8).reshape(6, 10, 1), 3, axis=2)
    colour = grey.copy()
    colour[0, 0, 2] += 1
    cache = PixelCache(limit=250)
    cache.put("grey", grey)
    assert cache.size == 60
    cache.put("grey", grey)
    assert cache.size == 60
    cache.put("colour", colour)
    assert cache.size == 240
    cache.put("late", grey)
    assert cache.size == 240
    assert np.array_equal(cache.get("grey"), grey)
    assert np.array_equal(cache.get("colour"), colour)
    assert cache.get("late") is None
    colour[:] = 0
    assert cache.get("colour").any(), "a copy is kept"
    other = pickle.loads(pickle.dumps(cache))
    assert (other.get("grey"), other.size) == (None, 0)
    for name in "abcde":
        other.put(name, grey)
    assert other.size == 240, "empty, with the same limit"


def test_equal_images_and_captions_share_groups_in_every_batch(repeated):
    data = SampleDataset(repeated, student=STUDENT)
    parts = [data.batch(rows, [0] * len(rows)) for rows in ([0, 1], [2, 3], [4])]
    images, texts = ([int(i) for part in parts for i in getattr(part, name)] for name in GROUPS)
    assert images == [0, 1, 2, 0, 3]
    assert texts == [0, 1, 2, 3, 1]
    elsewhere = pickle.loads(pickle.dumps(data)).batch([3, 4], [0, 0])
    assert (elsewhere.image_group.tolist(), elsewhere.text_group.tolist()) == ([0, 3], [3, 1])


def test_tokens_are_those_of_each_caption_and_each_is_tokenized_once():
    texts = ["b", "a", "b", "c", "a", "d", "a "]
    asked = []

    def listening(chunk):
        asked.append(list(chunk))
        return tokenize(chunk)

    table = token_table(texts, listening, chunk=2)
    assert table.dtype == torch.int32
    assert torch.equal(table, tokenize(texts).to(torch.int32))
    assert asked == [["b", "a"], ["c", "d"], ["a "]]


def test_nothing_is_hashed_or_tokenized_for_a_batch(pairs, monkeypatch, decodes):
    tokens = token_table(pairs.texts, tokenize)
    data = SampleDataset(pairs, student=STUDENT, tokens=tokens, teacher_geometries=TEACHERS)
    rows = list(range(20))
    first = data.batch(rows, [0] * 20)
    decodes.taken()

    def never(*_, **__):
        msg = "work that belongs to the beginning"
        raise AssertionError(msg)

    for module in (keys_module, dataset_module):
        for name in ("text_key", "image_key", "text_keys", "image_keys", "group_ids", "normalize_text"):
            monkeypatch.setattr(module, name, never, raising=False)
    assert_same(data.batch(rows, [0] * 20), first)
    assert decodes.taken() == []


def test_keys_that_are_known_are_not_computed_again(pairs, monkeypatch):
    known = image_keys(pairs)
    monkeypatch.setattr(keys_module, "image_key", None)
    assert SampleDataset(pairs, student=STUDENT, keys=known).keys == known
    for wrong in ({"keys": known[:-1]}, {"keys": known, "tokens": torch.zeros(19, 4, dtype=torch.int32)}):
        with pytest.raises(ValueError, match="`keys` and `tokens` must have 20 rows"):
            SampleDataset(pairs, student=STUDENT, **wrong)


def test_copies_for_processes_share_the_cache_size_and_start_empty(pairs, decodes):
    data = SampleDataset(pairs, student=STUDENT, views=FRESH)
    rows = [1, 2, 3]
    first = data.batch(rows, [1, 1, 1])
    for other in (pickle.loads(pickle.dumps(data)), data.for_workers(2)):
        decodes.taken()
        assert_same(other.batch(rows, [1, 1, 1]), first)
        assert len(decodes.taken()) == 3
    size = sum(decode(pairs.refs[row]).nbytes for row in rows)
    halved = SampleDataset(pairs, student=STUDENT, views=FRESH, cache_bytes=size).for_workers(size)
    halved.batch(rows, [1, 1, 1])
    decodes.taken()
    halved.batch(rows, [1, 1, 1])
    assert len(decodes.taken()) == 3, "a byte each holds nothing"


def test_the_fingerprint_knows_everything_that_decides_a_batch(pairs):
    tokens = token_table(pairs.texts, tokenize)
    plain = {"student": STUDENT, "tokens": tokens, "views": FRESH, "teacher_geometries": TEACHERS}

    def fingerprint(samples=pairs, **changed):
        return SampleDataset(samples, **plain | changed).fingerprint

    known = fingerprint()
    assert fingerprint(cache_bytes=5) == known
    other_tokens = tokens.clone()
    other_tokens[4, 2] += 1
    changed = [
        fingerprint(pairs.take([1, 0, *range(2, 20)]), tokens=tokens),
        fingerprint(keys=[*image_keys(pairs)[:-1], "another"]),
        fingerprint(student=TALL),
        fingerprint(tokens=other_tokens),
        fingerprint(tokens=tokens.reshape(20, 3, 4).transpose(1, 2).reshape(20, 12)),
        fingerprint(views=CONSISTENT),
        fingerprint(views=ViewRule(policy=ViewPolicy(gamma=0.1))),
        fingerprint(views=ViewRule(policy=ViewPolicy(), views=3)),
        fingerprint(teacher_geometries=frozenset({WIDE})),
    ]
    assert len({known, *changed}) == len(changed) + 1
