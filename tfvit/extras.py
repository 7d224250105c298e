"""Optional packages: the extras of pyproject.toml, and one error that names the extra where one of its packages is missing."""

from __future__ import annotations

import importlib.util

from tfvit.errors import EnvironmentUnusableError

# Extra -> the packages of it that are imported, by module
EXTRAS = {
    "edge": ("ai_edge_litert", "ai_edge_quantizer", "scipy", "threadpoolctl", "platformdirs", "jsonschema"),
    "report": ("jsonschema", "matplotlib", "jinja2"),
    "plots": ("matplotlib",),
    "cluster": ("distributed",),
    "npu": ("ethosu",),
    "web": ("cryptography", "segno"),
}


def require_extra(extra: str, purpose: str, *modules: str, otherwise: str = "") -> None:
    """Checks that packages of an extra are installed, without importing them.

    Args:
        extra: the name in `pip install '.[EXTRA]'`.
        purpose: what needs it; begins the message.
        modules: which of its packages; all where none is named.
        otherwise: another way out, after the command that installs the extra.

    Raises:
        EnvironmentUnusableError: one is not installed.
    """
    modules = modules or EXTRAS[extra]
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise EnvironmentUnusableError(
            f"{purpose} needs the extra '{extra}'",
            expected=f"installed: {_packages(modules)}",
            received=f"not installed: {_packages(missing)}",
            action=f"{install_command(extra)}{otherwise}",
            extra=extra,
        )


def install_command(extra: str) -> str:
    """How to install an extra, from a checkout or a wheel. No package index has this project: the `tfvit` of PyPI is another one."""
    return f"pip install '.[{extra}]' in the checkout of tfvit, or pip install 'FILE.whl[{extra}]' with its wheel"


def _packages(modules: tuple[str, ...] | list[str]) -> str:
    return ", ".join(module.replace("_", "-") for module in modules)


def require_matplotlib(flag: str) -> None:
    """Checks that the flag that asked for a picture can be served.

    Raises:
        EnvironmentUnusableError: matplotlib is not installed.
    """
    require_extra("plots", flag, otherwise=f", or leave {flag} out")
