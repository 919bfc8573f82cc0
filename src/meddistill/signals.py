"""What a model can give: one vocabulary for cards, feature stores, objectives and evaluation. Loads no torch.

`image` and `text` are embeddings, one vector an image or text; `patches` a grid of tokens an image,
`text_tokens` the states of a text's tokens.
"""

from typing import Final, Literal

Signal = Literal["image", "text", "patches", "text_tokens"]
# The signals that a tower gives of its own: embeddings, which student and teacher can share a space with.
Tower = Literal["image", "text"]
TOWERS: Final[tuple[Tower, ...]] = ("image", "text")
