"""What the commands' pictures share: matplotlib is an extra, and equal data gives equal bytes."""

from __future__ import annotations

import io
from typing import Any

from tfvit.extras import require_extra

_DPI = 110


def require_matplotlib(flag: str) -> None:
    """Checks that the flag that asked for a picture can be served.

    Raises:
        EnvironmentUnusableError: matplotlib is not installed.
    """
    require_extra("plots", flag, otherwise=f", or leave {flag} out")


def png(figure: Any) -> bytes:
    """A matplotlib figure as a PNG, without a date or version in it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()
