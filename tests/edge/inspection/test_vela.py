"""Arm's compiler on our files, against the rules. Without the extra `npu`, what a command says then."""

import importlib.util
from collections import Counter

import pytest

from edge import inspect
from edge.inspection import command, vela
from edge.tflite import flatbuffer, npu_rules
from tfvit.errors import EXIT_OK, EXIT_UNUSABLE, EXIT_USAGE, UsageError

with_compiler = pytest.mark.skipif(not vela.is_installed(), reason="the extra npu is not installed")


@with_compiler
@pytest.mark.parametrize("accelerator", ["ethos-u55-128", "ethos-u65-256", "ethos-u85-1024"])
def test_int8_full_compiles_whole(micro_files, accelerator):
    found = vela.compiled(micro_files["int8_full"].read_bytes(), accelerator)
    assert (found.on_cpu, found.parts) == ((), 1)
    assert found.estimated_ms > 0
    assert found.sram_kib > 0
    assert accelerator.rsplit("-", 1)[0].replace("-", "_") in found.memory.lower()


@with_compiler
@pytest.mark.parametrize("recipe", ["float32", "int8", "int8_full"])
def test_the_rules_say_what_the_compiler_says(micro_files, recipe):
    file = micro_files[recipe].read_bytes()
    by_rule: Counter[str] = Counter()
    for one in npu_rules.npu_summary(flatbuffer.read_model(file))["on_cpu"]:
        by_rule[one["op"]] += one["operations"]
    assert Counter(one["op"] for one in vela.compiled(file, "ethos-u55-128").on_cpu) == by_rule


@with_compiler
def test_the_page_says_what_is_estimated(micro_files, capfd):
    assert inspect.main([str(micro_files["int8_full"]), "--npu", "ethos-u85-1024", "--quiet"]) == EXIT_OK
    out = capfd.readouterr().out
    assert "0 on the CPU" in out
    assert "the compiler's estimate, not a measurement" in out


def test_without_the_compiler_the_rules_answer(micro_files, monkeypatch, capfd):
    installed = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ethosu" else installed(name))
    assert inspect.main([str(micro_files["int8_full"]), "--npu", "ethos-u85-1024", "--quiet"]) == EXIT_UNUSABLE
    out = capfd.readouterr().out
    assert "Ethos-U NPU: whole (rules for" in out
    assert "pip install '.[npu]'" in out
    document = command.compiled_for_npu(micro_files["int8_full"].read_bytes(), "ethos-u55-128")
    assert document["status"] == command.NOT_TESTED


def test_an_accelerator_that_does_not_exist(micro_files, capfd):
    assert inspect.main([str(micro_files["int8_full"]), "--npu", "ethos-u85-1000", "--quiet"]) == EXIT_USAGE
    assert "ethos-u85-1024" in capfd.readouterr().err
    with pytest.raises(UsageError):
        vela.known("coral")
