"""Messages of the program on a page."""

from markupsafe import Markup, escape

_CODE = Markup("<code>{}</code>")


def with_code(words: str) -> Markup:
    """What stands between backticks as code; the rest escaped."""
    parts = words.split("`")
    if len(parts) % 2 == 0:  # a backtick without its partner
        return escape(words)
    return Markup("").join(_CODE.format(part) if place % 2 else part for place, part in enumerate(parts))
