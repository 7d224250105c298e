"""What an Android app's benchmark says: which file a row is about, what it ran on, and what it must be labelled with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from edge.report.documents import Document

PHONE = "phone"
_NOT_A_PHONE = {"emulator": "emulator, not a phone", "host_jvm": "this is a computer's JVM, not a phone", "board": "board, not a phone"}


@dataclasses.dataclass(frozen=True)
class DeviceRow:
    """One measurement of one file on one device.

    Attributes:
        document: the label of the report it is from.
        device: manufacturer and model, and whether it is a phone at all.
        is_phone: false for emulators, JVMs on a computer, and boards.
        result: the row as the report has it.
    """

    document: str
    device: str
    is_phone: bool
    result: Mapping[str, Any]

    @property
    def as_asked(self) -> bool:
        """Whether the backend that ran is the one that was asked for."""
        return self.result["backend_used"] == self.result["backend_requested"]

    @property
    def remarks(self) -> list[str]:
        """Why something else ran than was asked for, and why not to rely on it."""
        fallback = (
            [] if self.as_asked else [f"asked for {self.result['backend_requested']}: {self.result['backend_reason'] or 'no reason given'}"]
        )
        return fallback + list(self.result["invalid_reasons"])

    @property
    def answers_agree(self) -> bool:
        """Whether the parity check, if there was one, passed."""
        parity = self.result["parity"]
        return parity is None or bool(parity["passed"])


def rows(document: Document) -> list[DeviceRow]:
    """Every result of a report."""
    device = document.content["device"]
    name = " ".join(part for part in (device["manufacturer"], device["model"]) if part)
    is_phone = device["kind"] == PHONE
    if not is_phone:
        name = f"{name} ({_NOT_A_PHONE[device['kind']]})"
    return [DeviceRow(document.label, name, is_phone, result) for result in document.content["results"]]


def description(document: Document) -> list[tuple[str, str]]:
    """What the report says of its device and app, as name and value."""
    device, app = document.content["device"], document.content["app"]
    said = {
        "device": f"{device['manufacturer']} {device['model']}",
        "SoC": device["soc"],
        "Android": device["android_version"],
        "API level": device["api_level"],
        "ABI": device["abi"],
        "runtime": document.content["runtime"],
        "app": f"{app['name']} {app['version']}",
    }
    return [(name, "not said" if value is None else str(value)) for name, value in said.items()]
