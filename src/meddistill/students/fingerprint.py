"""What tells two students apart."""

import hashlib
from typing import Final

import torch

from meddistill.students.dual_encoder import DualEncoder

# Words, numbers, signs and letters of other alphabets: tokenizers that treat all of them alike are alike.
_PROBES: Final = (
    "Pneumonia, left lower lobe: 12 mm; naïve α",
    "T2-weighted MRI of the brain (axial) shows a 3.5 x 2.1 cm enhancing lesion & perifocal oedema.",
    "hematoxylin/eosin stained histopathology – invasive ductal carcinoma, grade III, ER+/PR-, Ki-67 > 20%",
    "no acute cardiopulmonary abnormality ... follow-up in 6 months?",
    "眼底照片 сетчатка",
)


def student_fingerprint(student: DualEncoder) -> str:
    """sha256 over weights, preprocessing, context length and what the tokenizer makes of some captions."""
    digest = hashlib.sha256()
    digest.update(student.input.model_dump_json().encode())
    digest.update(str(student.context_length).encode())
    ids = student.tokenize(_PROBES)
    digest.update(ids.to("cpu", torch.float32).numpy().tobytes())
    for name, tensor in sorted(student.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().to("cpu").contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
