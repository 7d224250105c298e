"""The Dart class: its syntax, and what it says. No compiler of Dart can be had here: nothing else of it is checked."""

import pytest
import yaml

from edge.apps import flutter
from tests.edge.apps.entries import CASES, entry
from tests.edge.apps.syntax import errors


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_its_syntax(changes):
    assert errors("dart", flutter.dart(entry(**changes))) == []


def test_the_parser_finds_errors():
    assert errors("dart", flutter.dart(entry()).replace("final scale =", "final scale = =")) != []


def test_what_it_says():
    code = {name: flutter.dart(entry(**changes)) for name, changes in CASES.items()}
    assert "Interpreter.fromAsset('assets/edge/nano32-int8.tflite'" in code["values"]
    assert "rootBundle.loadString('assets/edge/nano32-int8.labels.txt')" in code["values"]
    assert ("class Regressor" in code["values"], "Float32List predict(" in code["values"]) == (True, True)
    assert [word for word in ("labels", "services.dart", "dart:convert") if word in code["features, no names"]] == []
    assert [name for name, text in code.items() if " exp(" in text or "+ exp(" in text] == [name for name in CASES if "logits" in name]
    assert "(value / 1.0 + (-128)).round()" in code["int8 in and out, logits"]
    assert "(stored - (-7)) * 0.0927" in code["int8 in and out, logits"]
    assert [name for name, text in code.items() if "$" in text] == []
    assert [name for name, text in code.items() if "Unchecked: never compiled" not in text.splitlines()[0]] == []


def test_the_registration_is_yaml():
    assert yaml.safe_load(flutter.PUBSPEC) == {"dependencies": {"tflite_flutter": "0.12.1"}, "flutter": {"assets": ["assets/edge/"]}}
