"""What a processor is called in manifests, reports and results."""

import pytest

from edge.runtime import machine

_X86 = """processor\t: 0
cpu family\t: {family}
model\t\t: {model}
model name\t: {name}
flags\t\t: fpu {flags}

processor\t: 1
model name\t: another
"""


@pytest.mark.parametrize(
    ("name", "flags", "expected"),
    [
        ("AMD EPYC 9V45 96-Core Processor", "avx512_vnni", "AMD EPYC 9V45 96-Core Processor, AVX512-VNNI"),
        ("AMD EPYC", "avx512_vnni", "AMD EPYC (family 25, model 17), AVX512-VNNI"),  # a virtual machine that hides the number
        ("Intel Xeon", "amx_int8 avx512_vnni", "Intel Xeon (family 25, model 17), AVX512-VNNI, AMX"),
        ("Intel(R) Core(TM) i7-8550U", "avx2 avx_vnni_not_this_one", "Intel(R) Core(TM) i7-8550U"),
    ],
)
def test_processors(name, flags, expected):
    assert machine._named(_X86.format(family=25, model=17, name=name, flags=flags)) == expected


def test_a_board_of_arm():
    assert machine._named("processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd\nModel\t\t: Raspberry Pi 5\n") == "Raspberry Pi 5"


def test_a_system_that_does_not_say(monkeypatch):
    monkeypatch.setattr(machine.platform, "machine", lambda: "aarch64")
    assert machine._named("processor\t: 0\n") == "aarch64"
    assert machine.cpu_name()
