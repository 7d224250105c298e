"""From what `edge.ship` is given to its document."""

from __future__ import annotations

from typing import Any

from edge.apps import projects
from edge.shipping import steps, summary
from edge.shipping.summary import table as table


def ship(**arguments: Any) -> dict[str, Any]:
    """The JSON of `edge.ship`; the arguments are those of `edge.shipping.steps.Request`.

    Raises:
        UserError: the app is no project that is known: said before anything is made for it.
    """
    request = steps.Request(**arguments)
    if request.app:
        projects.recognise(request.app)
    return summary.document(request, steps.ship(request))
