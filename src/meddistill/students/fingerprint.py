"""What tells two students apart."""

import hashlib

import torch

from meddistill.students.dual_encoder import DualEncoder


def student_fingerprint(student: DualEncoder) -> str:
    """sha256 over weights, preprocessing, context length and tokenizer of a student."""
    digest = hashlib.sha256()
    digest.update(student.input.model_dump_json().encode())
    digest.update(f"{student.context_length} {type(student.tokeniser).__name__}".encode())
    ids = student.tokenise(["Pneumonia, left lower lobe: 12 mm; naïve α"])
    digest.update(ids.to("cpu", torch.float32).numpy().tobytes())
    for name, tensor in sorted(student.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().to("cpu").contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
