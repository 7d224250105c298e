"""The house: which module may import which. Read from the imports themselves, those inside functions too."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS = ("ship", "convert", "validate", "benchmark", "inspect", "report.__main__", "bundle", "publish", "device", "cache", "verify")
TERMINAL = "tfvit.terminal"


def _modules() -> dict[str, Path]:
    found = {}
    for package in ("tfvit", "calibration", "edge"):
        for path in sorted((ROOT / package).rglob("*.py")):
            found[".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


def imports_of(source: str, modules: set[str]) -> set[str]:
    """The modules that a source text imports, of those that are given; type-checking imports are left out."""
    tree, found = ast.parse(source), set()
    unneeded = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if node in unneeded:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in modules}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found |= {inner} if inner in modules else {node.module} & modules
    return found


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other, directly or through others (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(arrows[name]):
            if other not in index:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == index[name]:
            group = []
            while not group or group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for name in arrows:
        if name not in index:
            visit(name)
    return found


@pytest.fixture(scope="module")
def arrows() -> dict[str, set[str]]:
    modules = _modules()
    return {name: imports_of(path.read_text(encoding="utf-8"), set(modules)) - {name} for name, path in modules.items()}


def test_no_circle_of_modules(arrows):
    assert circles(arrows) == []


def test_no_circle_of_packages(arrows):
    def room(name: str) -> str:
        parts = name.split(".")
        return ".".join(parts[:2]) if parts[0] == "edge" and len(parts) > 2 and name != "edge.report.__main__" else name

    rooms: dict[str, set[str]] = {}
    for name, others in arrows.items():
        rooms.setdefault(room(name), set()).update({room(other) for other in others} - {room(name)})
    for others in list(rooms.values()):
        for other in others:
            rooms.setdefault(other, set())
    assert circles(rooms) == []


def test_the_circle_check_can_fail():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert imports_of("def f():\n    from edge.x import y\n", {"edge.x", "edge.x.y"}) == {"edge.x.y"}


def test_imports_go_one_way(arrows):
    """tfvit <- calibration <- edge's packages <- commands."""
    commands = {f"edge.{name}" for name in COMMANDS}
    wrong = []
    for name, others in arrows.items():
        package = name.split(".")[0]
        higher = {"tfvit": ("calibration", "edge"), "calibration": ("edge",), "edge": ()}[package]
        wrong += [(name, other) for other in others if other.split(".")[0] in higher and name != "tfvit.evaluate"]
        wrong += [(name, other) for other in others if other in commands]  # no command, no package imports a command
    assert wrong == []


def _lazily_imported(source: str, modules: set[str]) -> set[str]:
    """Our modules that are imported inside functions."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    return set().union(*(imports_of(ast.unparse(node), modules) for node in functions)) if functions else set()


def test_a_command_makes_one_lazy_import():
    """Parsing needs nothing heavy, and one line says where the work is done."""
    modules = _modules()
    found = {name: _lazily_imported(modules[f"edge.{name}"].read_text(encoding="utf-8"), set(modules)) for name in (*COMMANDS, "report")}
    found = {name: {one for one in others if not any(other.startswith(f"{one}.") for other in others)} for name, others in found.items()}
    assert {name: sorted(others) for name, others in found.items() if len(others) > 1} == {}
    assert sum(len(others) for others in found.values()) >= 7  # the check sees them


def test_packages_know_nothing_of_terminals(arrows):
    allowed = {f"edge.{name}" for name in COMMANDS} | {"edge.front_door", "tfvit.compare", "tfvit.evaluate", "calibration.inspect"}
    assert sorted(name for name, others in arrows.items() if TERMINAL in others and name not in allowed) == []


def test_what_makes_files_imports_nothing_else(arrows):
    """The hash of the code in an artifact is of these rooms alone."""
    from edge.artifacts.provenance import MAKE_FILES

    makers = tuple(folder.replace("/", ".") for folder in MAKE_FILES)
    inside = {name for name in arrows if name.startswith(tuple(f"{maker}." for maker in makers)) or name in makers}
    commands = {"tfvit.evaluate", "tfvit.compare", "calibration.inspect"}
    wrong = [(name, other) for name in sorted(inside - commands) for other in sorted(arrows[name] - inside) if other != "edge"]
    assert wrong == []


def test_the_architecture_page_is_true():
    """Files it names are there, functions it names are in them, and it fits on a screen or two."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert len(page.splitlines()) <= 80
    files = set(re.findall(r"`((?:edge|tfvit|tests)/[\w/]+\.py)`", page))
    assert len(files) > 20
    assert [file for file in sorted(files) if not (ROOT / file).is_file()] == []
    named = re.findall(r"`(edge/[\w/]+\.py)`, `(\w+)`", page)
    assert len(named) >= 6
    for file, function in named:
        assert re.search(rf"^def {function}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), (file, function)
    line = (ROOT / "edge" / "conversion" / "convert_model.py").read_text(encoding="utf-8")
    body = line[line.index("def convert(") : line.index("def finite_reference(")]
    steps = [step for step in re.findall(r"^\| `([\w.]+)` \|", page, re.MULTILINE)]
    positions = [body.index(f"{step.rpartition('.')[2]}(") for step in steps]
    assert len(steps) == 10
    assert positions == sorted(positions)


# Modules without a test file of their name, by the file whose tests go through them
COVERED_BY = {
    "edge/test_inspect.py": "edge.inspection.command",
    "edge/quantization/test_float16_headroom.py": "edge.inspection.float16_arithmetic",
    "edge/test_publish.py": "edge.publishing.card edge.publishing.command",
    "edge/test_ship.py": "edge.shipping.command edge.shipping.steps edge.shipping.summary",
    "edge/test_bundle.py": "edge.android.command",
    "edge/apps/test_react_native.py": "edge.apps.model_class",
    "edge/test_device.py": "edge.android.device_command edge.android.phone_benchmark",
    "edge/artifacts/test_artifact.py": "edge.artifacts.atomic_files edge.artifacts.strict_json",
    "edge/test_verify.py": "edge.artifacts.difference edge.conversion.rebuild edge.conversion.verification",
    "edge/artifacts/test_store.py": "edge.cache edge.flags",
    "edge/test_convert.py": "edge.conversion.candidate edge.conversion.command edge.conversion.convert_model edge.conversion.image_checks "
    "edge.conversion.manifest edge.conversion.plan edge.conversion.table edge.conversion.usage edge.export.backend "
    "edge.export.float_model edge.quantization.recipes tfvit.labels tfvit.weights_choice",
    "edge/conversion/test_scheduler.py": "edge.conversion.cells edge.conversion.costs edge.conversion.worker edge.export.kept_model",
    "edge/conversion/test_scale.py": "edge.conversion.cluster",
    "edge/conversion/test_assumptions.py": "tfvit.imagenet",
    "edge/export/test_outputs.py": "edge.drift.meanings",
    "edge/drift/test_metrics.py": "edge.drift.limits",
    "edge/test_validate.py": "edge.export.recorded_source edge.validation.command edge.validation.document edge.validation.images "
    "edge.validation.layer_drift edge.validation.reference edge.validation.seen edge.validation.settings "
    "edge.validation.validate_file",
    "edge/test_benchmark.py": "edge.latency.command edge.latency.plot edge.latency.result edge.latency.table edge.runtime.process",
    "edge/quantization/test_quantize.py": "edge.quantization.dense_layers edge.quantization.ranges edge.runtime.cpu",
    "edge/web/test_server.py": "edge.web.certificate",
    "edge/report/test_report.py": "edge.report.command edge.report.plots edge.report.sections edge.report.summary "
    "edge.report.validation_section",
    "edge/artifacts/test_self_description.py": "edge.tflite.attachments edge.tflite.metadata",
    "edge/tflite/test_flatbuffer.py": "edge.tflite.runtime_versions",
    "edge/tflite/test_gpu_rules.py": "edge.tflite.delegate_operations",
    "tfvit/checkpoints/test_reading.py": "tfvit.checkpoints.checkpoint tfvit.checkpoints.names",
    "tfvit/test_weights.py": "tfvit.checkpoints.layouts tfvit.checkpoints.official",
    "tfvit/test_model.py": "tfvit.attention tfvit.blocks tfvit.dense tfvit.functional tfvit.variants tfvit.windowed",
    "tfvit/test_plain.py": "tfvit.plain_layers",
    "edge/export/test_several_backbones.py": "tfvit.graph_constants",
    "tfvit/test_hub.py": "tfvit.hashing",
    "test_commands.py": "tfvit.extras",
    "tfvit/test_terminal.py": "tfvit.progress tfvit.terminal_table",
    "tfvit/test_torch_checkpoint.py": "tfvit.torch_objects tfvit.torch_pickle",
    "calibration/test_inspect.py": "calibration.checks calibration.stability calibration.survey",
    "calibration/test_image_set.py": "calibration.decoding calibration.files",
}


def test_every_module_has_its_tests():
    tests = ROOT / "tests"
    covered = {name for names in COVERED_BY.values() for name in names.split()}
    modules = {name: path for name, path in _modules().items() if path.name not in ("__init__.py", "__main__.py")}
    own = {name for name, path in modules.items() if (tests / path.relative_to(ROOT).parent / f"test_{path.name}").is_file()}
    assert sorted(set(modules) - own - covered) == []
    assert sorted(covered - (set(modules) - own)) == []  # nothing is listed that is gone, or has tests of its own
    assert [file for file in COVERED_BY if not (tests / file).is_file()] == []
