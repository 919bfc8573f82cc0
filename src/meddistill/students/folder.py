"""A student on disk: an open_clip folder that stock open_clip loads, and `meddistill.json` beside it.

```
open_clip_config.json          model_cfg and preprocess_cfg
open_clip_model.safetensors    the weights
meddistill.json                origin, licence, preprocessing, sha256 of every other file
tokenizer.json, …              where the vocabulary is not CLIP's
text_tower/config.json         where the text tower is a Hugging Face one
```
open_clip reads the configuration of a Hugging Face text tower by name, relative to the working directory;
such a student therefore loads in stock open_clip as `local-dir:.` from within its folder.
"""

import json
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError

import meddistill
from meddistill.errors import CheckpointError
from meddistill.file_kinds import stand_in
from meddistill.files import folder_aside, follow_umask, reraise_os_error, sha256_of, writing
from meddistill.students.architecture import TEXT_FOLDER, Architecture, preprocessing_of
from meddistill.students.build import assemble, construct
from meddistill.students.config import StudentConfig
from meddistill.students.dual_encoder import DualEncoder
from meddistill.students.initial.folder import OPEN_CLIP_CONFIG
from meddistill.students.initial.open_clip_folder import WEIGHTS_FILE
from meddistill.students.metadata import (
    METADATA_FILE,
    FileRecord,
    Provenance,
    StudentMetadata,
    read_metadata,
)
from meddistill.students.presets import ModelConfig


def save_student(
    student: DualEncoder, folder: Path, *, provenance: Provenance, config: StudentConfig | None = None
) -> StudentMetadata:
    """Write the student as an open_clip folder.

    The folder is written beside its place and moved there when complete, so that a reader sees the old
    student, the new one or none, never half of one.

    Parameters
    ----------
    student
        The student; its device and mode do not matter and stay as they are.
    folder
        A folder that does not exist, is empty, or holds a student, which is replaced.
    provenance
        Teachers, initial weights and data, with their licences.
    config
        The recipe's `student`, kept for the record; of paths only their last part, since a whole path
        tells about the machine.

    Raises
    ------
    CheckpointError
        If `folder` holds something that is not a student, or cannot be written.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / METADATA_FILE).is_file():
        msg = (
            f"`folder` must be empty or hold a student; got {folder} with other files. Choose another place."
        )
        raise CheckpointError(msg)
    with writing(folder, CheckpointError), folder_aside(folder) as partial:
        return _write(student, partial, provenance=provenance, config=config)


def _write(
    student: DualEncoder, folder: Path, *, provenance: Provenance, config: StudentConfig | None
) -> StudentMetadata:
    _write_weights(student, folder)
    _write_config(student, folder)
    with reraise_os_error(Exception):  # the class that the Rust of `tokenizers` raises
        student.tokenizer.save(folder)
    metadata = StudentMetadata(
        created_with=f"meddistill {meddistill.__version__}",
        embed_dim=student.embed_dim,
        context_length=student.context_length,
        tokenizer=student.tokenizer.kind,
        input=student.input,
        provenance=provenance,
        licence=provenance.licence,
        config=_without_paths(config),
        files=_records(folder),
    )
    (folder / METADATA_FILE).write_text(metadata.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return metadata


def is_whole(folder: Path) -> bool:
    """Whether a folder is a student whose files are those that were written, byte for byte."""
    try:
        verify_student(folder)
    except CheckpointError:
        return False
    return True


def verify_student(folder: Path) -> StudentMetadata:
    """What a student folder says of itself, once its files are found to be those that were written.

    Raises CheckpointError where one is absent or another.
    """
    metadata = read_metadata(folder)
    _verify(folder, metadata)
    return metadata


def load_student(folder: Path) -> DualEncoder:
    """Read a folder that `save_student` wrote; on the CPU, in evaluation mode.

    Raises
    ------
    CheckpointError
        If a file is absent, damaged, or not the one that was written.
    """
    metadata = verify_student(folder)
    model_config = _read_config(folder)
    resolved = Architecture(
        model_config=model_config,
        spec=metadata.input,
        tokenizer=str(folder) if metadata.tokenizer == "hf" else None,
    )
    student = assemble(construct(_located(model_config, folder), seed=0), resolved)
    try:
        student.model.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS_FILE), strict=True)
    except (SafetensorError, RuntimeError) as error:
        msg = f"`{WEIGHTS_FILE}` must hold the weights of {OPEN_CLIP_CONFIG}; got others in {folder}. {error}"
        raise CheckpointError(msg) from error
    student.eval()
    return student


def file_record(path: Path) -> FileRecord:
    """sha256 and size of a file."""
    return FileRecord(sha256=sha256_of(path), bytes=path.stat().st_size)


def _write_weights(student: DualEncoder, folder: Path) -> None:
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in student.model.state_dict().items()
    }
    with reraise_os_error(SafetensorError):
        safetensors.torch.save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    follow_umask(folder / WEIGHTS_FILE)


def _write_config(student: DualEncoder, folder: Path) -> None:
    model_config = json.loads(json.dumps(student.model_config))
    text = model_config["text_cfg"]
    if "hf_model_name" in text:
        text["hf_model_name"], text["hf_model_pretrained"] = TEXT_FOLDER, False
        student.model.text.config.save_pretrained(folder / TEXT_FOLDER)
    if text.get("hf_tokenizer_name"):
        # Any name will do: open_clip looks in the folder itself.
        text["hf_tokenizer_name"] = TEXT_FOLDER
    content = {"model_cfg": model_config, "preprocess_cfg": preprocessing_of(student.input)}
    (folder / OPEN_CLIP_CONFIG).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _read_config(folder: Path) -> ModelConfig:
    content: dict[str, ModelConfig] = json.loads((folder / OPEN_CLIP_CONFIG).read_text(encoding="utf-8"))
    return content["model_cfg"]


def _located(model_config: ModelConfig, folder: Path) -> ModelConfig:
    """The configuration with the text tower's folder as a path that holds from anywhere."""
    text = model_config["text_cfg"]
    if "hf_model_name" not in text:
        return model_config
    return {**model_config, "text_cfg": {**text, "hf_model_name": str(folder / text["hf_model_name"])}}


def _without_paths(config: StudentConfig | None) -> StudentConfig | None:
    if config is None:
        return None
    named = {"init": Path(config.init).name}
    if config.open_clip is not None:
        named["open_clip"] = Path(config.open_clip).name
    hf = config.text.hf
    text = config.text.model_copy(update={"hf": None if hf is None else Path(hf).name})
    return config.model_copy(update={**named, "text": text})


def _records(folder: Path) -> dict[str, FileRecord]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_record(path) for path in files}


def _verify(folder: Path, metadata: StudentMetadata) -> None:
    required = {OPEN_CLIP_CONFIG, WEIGHTS_FILE}
    for name in sorted(required | set(metadata.files)):
        path = folder / name
        if not path.is_file():
            msg = f"A student folder must hold {name}; got {folder} without it. Write the student again."
            raise CheckpointError(msg)
        if metadata.files.get(name) != file_record(path):
            with path.open("rb") as file:
                instead = stand_in(file.read(1024), size=path.stat().st_size)
            got = instead.what if instead else f"another sha256 or size than {METADATA_FILE} records"
            do = instead.remedy if instead else "Write the student again, or restore the folder."
            msg = f"`{path}` must be the file that was written; got {got}. {do}"
            raise CheckpointError(msg)
