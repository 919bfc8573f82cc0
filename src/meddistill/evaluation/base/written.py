"""Records that evaluation wrote as JSON, read back, or what was met in their place."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from meddistill.errors import UserError
from meddistill.file_kinds import absent, unreadable

Record = TypeVar("Record", bound=BaseModel)


def read_record(model: type[Record], path: Path, *, what: str, maker: str) -> Record:
    """The record of a file; raises UserError where it is absent, cannot be read or is other than written.

    `what` it is and the command (`maker`) that makes it are for the message.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        msg = f"`{path}` must hold {what}; got {absent(path).what}. Make it with `{maker}`."
        raise UserError(msg) from None
    except OSError as refusal:
        msg = f"`{path}` must be readable; got {unreadable(refusal)}"
        raise UserError(msg) from refusal
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "its start"
        rule = f"must hold {what} as `{maker}` writes it; got {first['msg']} at {place}"
        msg = f"`{path}` {rule}. Make it again."
        raise UserError(msg) from error
