"""What `reported` says of documents, whoever judged them."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any, Final

from agent.contract.documents import Document, DocumentError, LayerName, LayerRevisions, Refusal
from agent.contract.words import printable
from agent.documents.shelf import Shelf
from agent.rules.layers import LAYERS

_ERRORS: Final = 50  # of one document: it is corrected long before that many


def errors_of(layer: LayerName, refusal: Refusal) -> list[DocumentError]:
    """One entry for each problem, as `reported` has them."""
    problems = [(problem.path, problem.message) for problem in refusal.problems] or [(refusal.path, refusal.message)]
    shown = problems[:_ERRORS]
    errors = [DocumentError(layer, refusal.code, printable(path, 200), printable(message, 400)) for path, message in shown]
    if len(problems) > _ERRORS:
        errors.append(DocumentError(layer, refusal.code, "", f"and {len(problems) - _ERRORS} more"))
    return errors


def revisions(shelf: Shelf) -> dict[LayerName, LayerRevisions | None]:
    """The `layers` of `reported`."""
    found: dict[LayerName, LayerRevisions | None] = {}
    for layer in LAYERS:
        state = shelf.state
        in_force = state.before if state.trying == layer else state.accepted.get(layer)
        newest = state.seen.get(layer) or in_force
        found[layer] = None if newest is None else LayerRevisions(newest.rev, None if in_force is None else in_force.rev)
    return found


def good_until(documents: Iterable[Document]) -> str | None:
    """When the first of the documents in force gets stale."""
    return min((document.not_after for document in documents if document.not_after is not None), default=None)


def effective_sha256(value: Any) -> str:
    """The name of an effective document: the SHA-256 of its JSON, compact and with sorted keys."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
