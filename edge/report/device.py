"""The rows of a report of the Android app or of a browser: the backend that ran, and the warnings that belong to a row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from edge.report.documents import Document

PHONE, BROWSER = "phone", "browser"
_NOT_A_PHONE = {
    "emulator": "emulator, not a phone",
    "host_jvm": "this is a computer's JVM, not a phone",
    "board": "board, not a phone",
    BROWSER: "in a browser, not in an app",
}


@dataclasses.dataclass(frozen=True)
class DeviceRow:
    """One measurement of one file on one device.

    Attributes:
        document: label of the report.
        device: manufacturer and model, and whether it is a phone at all.
        is_phone: whether an app ran on a phone: false for emulators, JVMs on a computer, boards and browsers.
        result: the row in the report.
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
        """Why another backend ran than was asked for, and why the figures are not reliable."""
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
    """One row for each result of a report."""
    device = document.content["device"]
    name = " ".join(part for part in (device["manufacturer"], device["model"]) if part)
    if browser := document.content.get("browser"):
        name = f"{name}, {browser['name']} {browser['version'].partition('.')[0]}"
    is_phone = device["kind"] == PHONE
    if not is_phone:
        name = f"{name} ({_NOT_A_PHONE[device['kind']]})"
    return [DeviceRow(document.label, name, is_phone, result) for result in document.content["results"]]


def description(document: Document) -> list[tuple[str, str]]:
    """Names and values of the device and the app, or the browser."""
    device, app = document.content["device"], document.content["app"]
    if device["kind"] == BROWSER:
        browser = document.content["browser"]
        said = {
            "device": device["model"],
            "system": browser["system"],
            "browser": f"{browser['name']} {browser['version']}",
            "GPU": browser["gpu"] or "none",
            "cross-origin isolated": "yes" if browser["cross_origin_isolated"] else "no",
            "runtime": document.content["runtime"],
        }
        return list(said.items())
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
