"""From what `edge.publish` is given to its document: a folder of artifacts gets its card, and goes to a repository of a hub."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from edge.artifacts import artifact, atomic_files
from edge.artifacts.artifact import Artifact
from edge.publishing.card import MARK, card
from tfvit.errors import EnvironmentUnusableError, InputError, UsageError, first_line, no_such_folder
from tfvit.hashing import sha256
from tfvit.progress import step

CARD_FILE = "README.md"


def publish(folder: Path, to: str | None, private: bool, allow_random: bool, force: bool) -> dict[str, Any]:
    """The document of `edge.publish`; the arguments are the command's."""
    if not folder.is_dir():
        raise no_such_folder(folder, "a folder of artifacts", "check the path")
    if to is not None and (to.count("/") != 1 or not all(to.split("/"))):
        raise UsageError("bad repository", expected="--to OWNER/NAME", received=to, action="name the owner and the model")
    artifacts = [artifact.load(path, verify=False) for path in sorted(folder.glob("*.tflite")) if path.with_suffix(".json").is_file()]
    if not artifacts:
        raise InputError(
            "no artifacts",
            expected="manifests NAME.json beside NAME.tflite",
            received=str(folder),
            action=f"python -m edge.convert --variant nano32 --quant int8 --out {folder}",
        )
    refused = [reason for one in artifacts for reason in _refusals(one, allow_random)]
    document = {"kind": "publication", "folder": str(folder), "to": to, "refused": refused, "card": None, "files": [], "url": None}
    if refused:
        return document
    found = {one.name: _validation(folder, one) for one in artifacts}
    text = card(artifacts, (to or folder.resolve().name).rpartition("/")[2], {name: one for name, one in found.items() if one})
    with step("write the card"):
        atomic_files.save_texts({folder / CARD_FILE: text}, force=force, mark=MARK)
    names = [CARD_FILE, *(name for one in artifacts for name in _files(folder, one))]
    document |= {"card": str(folder / CARD_FILE), "files": names}
    if to is not None:
        document["url"] = _upload(folder, names, to, private)
    return document


def _files(folder: Path, one: Artifact) -> list[str]:
    endings = (".tflite", ".json", ".labels.txt", ".validation.json")
    return [f"{one.name}{ending}" for ending in endings if (folder / f"{one.name}{ending}").is_file()]


def _refusals(one: Artifact, allow_random: bool) -> list[str]:
    """Why an artifact must not be published."""
    found = []
    if sha256(one.file) != one.manifest["file"]["sha256"]:
        found.append(f"{one.name}: its hash is not the one in its manifest")
    if one.manifest["weights"]["random"] and not allow_random:
        found.append(f"{one.name}: random weights, its answers mean nothing (--allow-random publishes it all the same)")
    if not one.manifest["drift"]["passed"]:
        found.append(f"{one.name}: its drift check failed when it was converted")
    return found


def _validation(folder: Path, one: Artifact) -> dict[str, Any] | None:
    """The document of edge.validate about this very file."""
    for path in sorted(folder.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict) and content.get("kind") == "validation" and content.get("sha256") == one.manifest["file"]["sha256"]:
            return content
    return None


def _upload(folder: Path, names: list[str], to: str, private: bool) -> str:
    """Sends the files in one commit; returns the repository's address."""
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    try:
        with step("upload", subject=to):
            made = api.create_repo(to, private=private, exist_ok=True)
            operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(folder / name)) for name in names]
            api.create_commit(to, operations, commit_message="Files and card by edge.publish")
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError, ValueError) as error:
        raise EnvironmentUnusableError(
            "the hub took nothing",
            expected=f"{to} on {api.endpoint}, and a token that may write there",
            received=first_line(error),
            action="hf auth login, or HF_TOKEN; the card is written, run the command again",
        ) from error
    return str(made)


def lines(document: dict[str, Any]) -> str:
    """What the command prints."""
    if document["refused"]:
        return "\n".join([*(f"REFUSED: {reason}" for reason in document["refused"]), "nothing was written"])
    said = [f"card: {document['card']}", f"files: {', '.join(document['files'])}"]
    if document["url"]:
        return "\n".join([*said, f"published: {document['url']}"])
    return "\n".join([*said, f"next: python -m edge.publish {shlex.quote(document['folder'])} --to OWNER/NAME"])
