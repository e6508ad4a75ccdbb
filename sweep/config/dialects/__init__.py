"""Files of other tools that run as they are: a W&B sweep, an NNI experiment, an NNI search space.

What has no equivalent here is a named mistake, what runs by another algorithm a warning. Overrides come after the
translation, in sweep's own grammar.
"""

from __future__ import annotations

from sweep.config.dialects import nni, wandb
from sweep.config.document import Document

__all__ = ["translate"]


def translate(document: Document) -> Document:
    """The document in sweep's own grammar, its places and names still those of the file."""
    if wandb.recognise(document.data):
        return wandb.translate(document)
    return nni.translate(document) if nni.recognise(document.data) else document
