"""Every command has a console script of the same name, and calls itself as it was called."""

import ast
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from edge.runtime import cpu
from tfvit import extras
from tfvit.errors import EXIT_CLOSED_PIPE, EXIT_UNUSABLE, EXIT_USAGE, EnvironmentUnusableError
from tfvit.extras import EXTRAS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SCRIPTS = PROJECT["scripts"]
HEAVY = ("tensorflow", "keras", "jax", "torch", "ai_edge_litert", "ai_edge_quantizer", "scipy", "matplotlib", "jinja2", "jsonschema")
# Started by other commands alone, with arguments of their own
NOT_FOR_PEOPLE = {"edge.runtime.process", "edge.conversion.worker", "edge.runtime.sandbox"}


def _commands() -> dict[str, str]:
    """Module as after `python -m` -> module that holds its main()."""
    found = {}
    for package in ("tfvit", "edge", "calibration"):
        for path in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            names = {node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}
            if "main" in names and module not in NOT_FOR_PEOPLE and module != "edge.__main__":
                found[module.removesuffix(".__main__")] = module
    return found


def test_every_command_has_its_script():
    commands = _commands()
    assert len(commands) >= 10
    assert {name.replace(".", "-"): f"{module}:main" for name, module in commands.items()} == SCRIPTS


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_help_names_the_way_it_was_called(script, monkeypatch):
    module = importlib.import_module(SCRIPTS[script].removesuffix(":main"))
    monkeypatch.setattr(sys, "argv", [module.__file__])
    assert module.parser().format_usage().startswith(f"usage: python -m {script.replace('-', '.')} ")
    monkeypatch.setattr(sys, "argv", [os.path.join("bin", script)])
    assert module.parser().format_usage().startswith(f"usage: {script} ")


# Flags that say what is worked on: without them nothing is, or what a manifest names
_SUBJECTS = {
    "--variant", "--model", "--checkpoint", "--quant", "--images", "--app", "--zip", "--web", "--compare", "--import", "--weights", "--gpu",
    "--float16", "--npu", "--std",
}  # fmt: skip


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_help_fits_80_columns_and_names_defaults(script, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    parser = importlib.import_module(SCRIPTS[script].removesuffix(":main")).parser()
    text = parser.format_help()
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert len(parser.format_usage().splitlines()) <= 2
    assert "example" in text
    flags = [action for action in parser._actions if action.nargs != 0 and action.option_strings and not action.required]
    unsaid = {action.option_strings[0] for action in flags if "default" not in (action.help or "")} - _SUBJECTS
    assert unsaid == set()


def test_the_commands_are_listed():
    """`python -m edge`, with the first line of each command's help."""
    done = subprocess.run([sys.executable, "-m", "edge"], capture_output=True, text=True, cwd=ROOT, check=True)
    listed = re.findall(r"^  (edge\.\w+) +\S", done.stdout, re.MULTILINE)
    assert sorted(listed) == sorted(name for name in _commands() if name.startswith("edge."))


def test_the_list_into_a_closed_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "edge"], stdout=writer, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    os.close(writer)
    assert (done.returncode, done.stderr) == (EXIT_CLOSED_PIPE, "")


@pytest.mark.parametrize(
    ("word", "action"),
    [("shp", "did you mean ship?"), ("convert", "python -m edge.convert --help"), ("edge.ship", "python -m edge.ship --help")],
)
def test_a_command_that_is_not_started_so(word, action):
    done = subprocess.run([sys.executable, "-m", "edge", word, "--variant", "nano32"], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (EXIT_USAGE, "")
    assert done.stderr.splitlines()[-1] == f"  do: {action}"


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_version(script, capsys):
    module = importlib.import_module(SCRIPTS[script].removesuffix(":main"))
    assert module.main(["--version"]) == 0
    assert capsys.readouterr().out == f"tfvit {PROJECT['version']}\n"


def test_help_loads_no_framework():
    """All in one process: starting one takes longer than all the help."""
    code = "import importlib, sys\n"
    code += f"for script, module in {[(script, target.removesuffix(':main')) for script, target in SCRIPTS.items()]}:\n"
    code += "    assert importlib.import_module(module).main(['--help']) == 0, script\n"
    code += f"    heavy = [name for name in {HEAVY} if name in sys.modules]\n"
    code += "    assert not heavy, (script, heavy)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    print(done.stderr)
    assert done.returncode == 0
    assert done.stdout.count("usage: ") == len(SCRIPTS)


def test_what_the_extras_bring_is_what_is_asked_for():
    """tfvit/extras.py against pyproject.toml."""
    for extra, modules in EXTRAS.items():
        listed = {re.split(r"[=<>~! ]", requirement)[0] for requirement in PROJECT["optional-dependencies"][extra]}
        assert {{"ethosu": "ethos-u-vela"}.get(module, module.replace("_", "-")) for module in modules} == listed, extra


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (["edge.convert", "--variant", "nano32", "--quant", "float32"], "edge"),
        (["edge.validate", "x.tflite"], "edge"),
        (["edge.inspect", "x.tflite"], "edge"),
        (["edge.bundle", "x.tflite", "--zip", "x.zip"], "edge"),
        (["edge.verify", "x.tflite"], "edge"),
        (["edge.cache"], "edge"),
        (["edge.device"], "edge"),
        (["edge.device", "--web", "."], "web"),
        (["edge.report", "."], "report"),
        (["edge.report", "--compare", ".", "."], "report"),
        (["edge.benchmark", "x.tflite", "--plot", "x.png"], "plots"),
        (["edge.convert", "--variant", "nano32", "--quant", "int8", "--explain"], "plots"),
        (["edge.convert", "--variant", "nano32", "--quant", "int8", "--cluster", "tcp://127.0.0.1:1"], "cluster"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_a_missing_extra_is_named(command, extra, monkeypatch, tmp_path, capfd):
    """`make package` asks the same of an environment that has none of them."""
    found = importlib.util.find_spec
    missing = {*EXTRAS[extra]}
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None if name in missing else found(name))
    module = importlib.import_module(SCRIPTS[command[0].replace(".", "-")].removesuffix(":main"))
    monkeypatch.delenv("TFVIT_CACHE", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("x.tflite").write_bytes(b"\x1c\0\0\0TFL3")
    assert module.main([*command[1:], "--quiet"]) == EXIT_UNUSABLE
    said = capfd.readouterr().err.splitlines()
    assert len(said) <= 4
    assert said[0].startswith("error: ")
    assert f"do: pip install '.[{extra}]' in the checkout of tfvit, or pip install 'FILE.whl[{extra}]' with its wheel" in said[-1]


def test_a_missing_runtime_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentUnusableError) as caught:
        cpu.runtime_package()
    assert caught.value.action == extras.install_command("edge")


def test_no_page_or_message_installs_from_an_index():
    """The `tfvit` of the public index is another project's."""
    listed = subprocess.run(["git", "grep", "-lI", "pip install"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert {"README.md", "tfvit/extras.py"} <= set(listed)
    wrong = re.compile(r"pip install[^\n]*[\s'\"]tfvit(-edge)?(\[|['\"`]|\s*$)", re.MULTILINE)
    assert all(wrong.search(f"pip install {asked}") for asked in ("'tfvit[edge]'", "tfvit-edge", "tfvit"))
    assert PROJECT["name"] != "tfvit"
    assert [name for name in listed if name != "tests/test_commands.py" and wrong.search((ROOT / name).read_text(encoding="utf-8"))] == []
