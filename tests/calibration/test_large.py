"""Many images and large ones: time and memory of a real command."""

import io
import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for a process's memory")]

ROOT = Path(__file__).parents[2]
NUMBER = 10_000
# Python, NumPy and Pillow take about 60 MB; an image of a survey is a few hundred bytes
MOST_MB_OF_MANY = 200
# 100 megapixels are 300 MB as RGB; Pillow resizes and converts beside them
MOST_MB_OF_LARGE = 1200


# After exec, unlike ru_maxrss, which begins with the size of the process that started this one
INSPECT = """
import sys
from calibration.inspect import main
code = main(sys.argv[1:])
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM:")), file=sys.stderr)
sys.exit(code)
"""


def _inspected(folder):
    """The document of `python -m calibration.inspect`, and the command's peak memory in MB."""
    command = [sys.executable, "-c", INSPECT, str(folder), "--variant", "nano32", "--no-ranges", "--json", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    peak_mb = int(done.stderr) / 1024
    print(f"{peak_mb:.0f} MB")
    return json.loads(done.stdout), peak_mb


def test_ten_thousand_images(tmp_path):
    generator = np.random.default_rng(0)
    for label in range(10):
        (tmp_path / str(label)).mkdir()
    for index in range(NUMBER):
        file = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file, "PNG", compress_level=0)
        (tmp_path / str(index % 10) / f"{index}.png").write_bytes(file.getvalue())
    document, peak_mb = _inspected(tmp_path)
    assert document["images"]["readable"] == NUMBER
    assert peak_mb < MOST_MB_OF_MANY


def test_a_hundred_megapixels_and_a_bomb(tmp_path):
    small = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(small, "PNG")
    (tmp_path / "small.png").write_bytes(small.getvalue())
    (tmp_path / "large.png").write_bytes(_one_colour_png(10_000))
    (tmp_path / "bomb.png").write_bytes(_one_colour_png(30_000))
    document, peak_mb = _inspected(tmp_path)
    assert document["images"]["readable"] == 2
    assert document["unreadable"] == [{"path": "bomb.png", "reason": "more than 178 megapixels"}]
    assert document["sizes"]["width"]["max_px"] == 10_000
    assert peak_mb < MOST_MB_OF_LARGE


def _one_colour_png(side: int) -> bytes:
    """Black and white, one bit a pixel: side x side pixels in a few kilobytes."""
    compressor, rows = zlib.compressobj(), b""
    row = bytes(1 + side // 8)
    for _ in range(side):
        rows += compressor.compress(row)
    file = io.BytesIO()
    Image.new("1", (8, 8)).save(file, "PNG")
    head = file.getvalue()[:16]
    header = side.to_bytes(4, "big") * 2 + b"\x01\x00\x00\x00\x00"
    chunks = [(b"IDAT", rows + compressor.flush()), (b"IEND", b"")]
    png = head + header + zlib.crc32(b"IHDR" + header).to_bytes(4, "big")
    return png + b"".join(len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big") for kind, data in chunks)
