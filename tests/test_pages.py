"""Every page: its links lead somewhere, its tables are those of results/, its commands are commands, the examples on the models run."""

import contextlib
import importlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from edge.quantization.recipes import RECIPES
from tfvit.variants import VARIANTS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "tfvit/cifar10/README.md", ROOT / "android_demo/README.md"]
CURRENT = [page for page in PAGES if page.parent.name != "decisions"]  # decisions are history: what they link to, they may name as it was
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
_CODE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ (.*)$", _CODE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def _dead(page: Path) -> list[str]:
    """The links and pictures of a page that lead nowhere."""
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", _CODE.sub("", page.read_text(encoding="utf-8"))):
        path, _, heading = target.partition("#")
        found = page.parent / path if path else page
        if "://" not in target and (not found.exists() or (heading and heading not in _headings(found))):
            dead.append(target)
    return dead


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page):
    assert _dead(page) == []


def test_dead_links_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A title, of two\n[a](page.md) [b](page.md#a-title-of-two) [c](#other) ![d](none.png) [e](https://x.y/z)\n```\n[f](none)\n```\n"
    )
    assert _dead(page) == ["#other", "none.png"]


def test_the_tables_and_the_picture_are_those_of_the_results(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import fill_pages
    import readme_picture

    filled = [table for page in fill_pages.PAGES for table in re.findall(r"<!-- table: (\w+) -->", page.read_text(encoding="utf-8"))]
    assert sorted(filled) == sorted(fill_pages.TABLES)
    for page in fill_pages.PAGES:
        text = page.read_text(encoding="utf-8")
        assert fill_pages.filled_in(text) == text, page
    assert readme_picture.is_drawn_from(fill_pages.PICTURE, fill_pages.RESULTS / "peers.csv")
    assert not readme_picture.is_drawn_from(fill_pages.PICTURE, fill_pages.RESULTS / "accuracy.csv")


def _commands(page: Path) -> list[tuple[str, str]]:
    """(module, arguments) of every command of ours on a page, in blocks of shell lines and between backticks."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:bash|console)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()] + re.findall(r"`([^`\n]+)`", _CODE.sub("", text))
    found = (re.match(r"(?:\$ )?(?:.*\s)?(?:\S*/)?python3? -m ((?:edge|calibration|tfvit)\.\w+)(?: (.*))?$", line) for line in lines)
    return [(match[1], match[2] or "") for match in found if match]


def test_commands_are_read_from_a_page(tmp_path):
    page = tmp_path / "page.md"
    blocks = "```console\n$ python -m edge.inspect a.tflite\n```\n```bash\nX=1 .venv/bin/python -m edge.cache\n```\n"
    page.write_text(blocks + "`python -m edge.report x`, and `edge.inspect x`")
    assert _commands(page) == [("edge.inspect", "a.tflite"), ("edge.cache", ""), ("edge.report", "x")]


@pytest.mark.parametrize("page", CURRENT, ids=_name)
def test_commands_parse(page):
    for module, line in _commands(page):
        main = SCRIPTS[module.replace(".", "-")].removesuffix(":main")
        arguments = shlex.split(line, comments=True)
        if not arguments:  # only named
            continue
        parsed = importlib.import_module(main).parser().parse_args(arguments)
        if module == "edge.convert":
            assert parsed.quant == "all" or set(parsed.quant.split(",")) <= set(RECIPES), line
            assert [parsed.variant or parsed.checkpoint, parsed.model].count(None) == 1, line
            assert parsed.variant in (None, "all") or set(parsed.variant.split(",")) <= set(VARIANTS), line


def test_pages_show_every_command():
    assert set(SCRIPTS) - {module.replace(".", "-") for page in CURRENT for module, _ in _commands(page)} == set()


def test_makefile_has_the_targets_named():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    named = {name for page in CURRENT for name in re.findall(r"(?:^|`)make ([a-z0-9-]+)", page.read_text(encoding="utf-8"), re.MULTILINE)}
    assert named == targets


@pytest.mark.slow
def test_the_examples_on_the_models_run(tmp_path):
    """As written, published weights and all: a hub on loopback serves a checkpoint of the right shape under the right name. The data set
    of the last one is a stand-in."""
    from safetensors.numpy import save

    import tfvit
    from tests.tfvit.test_hub import _Hub
    from tests.tfvit.test_weights import official_tensors
    from tfvit.weights import randomize

    model = tfvit.ViTTransformerTiny224(weights=None)
    randomize(model, 0)
    hub = _Hub(save(official_tensors(model)))
    Image.new("RGB", (300, 260), "orange").save(tmp_path / "photo.jpg")
    (tmp_path / "tensorflow_datasets.py").write_text(
        "import numpy as np\nimport tensorflow as tf\n"
        "def load(name, split):\n"
        "    examples = [(np.full((h, w, 3), 90, 'uint8'), label) for h, w, label in ((260, 300, 1), (500, 333, 2))]\n"
        "    kinds = {'image': tf.TensorSpec((None, None, 3), 'uint8'), 'label': tf.TensorSpec((), 'int64')}\n"
        "    return tf.data.Dataset.from_generator(lambda: ({'image': i, 'label': l} for i, l in examples), output_signature=kinds)\n"
    )
    examples = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/models.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(examples) == 5
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    with contextlib.closing(hub):
        for code in examples:
            prepared = "import numpy as np\nimages = np.zeros((2, 224, 224, 3), 'uint8')\nlabels = np.arange(2)\n" + code
            done = subprocess.run(
                [sys.executable, "-c", prepared], cwd=tmp_path, env={**environment, "PYTHONPATH": path}, capture_output=True, text=True
            )
            print(code, done.stdout[-300:])
            assert done.returncode == 0, done.stderr[-2000:]
        assert hub.bodies()
