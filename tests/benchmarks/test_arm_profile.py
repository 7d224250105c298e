"""Kernels are counted to the work they do, and functions are found by their addresses."""

from collections import Counter

import pytest

from benchmarks import arm_profile
from benchmarks.arm_profile import REST, kind_of, rows_of


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        ("xnn_qs8_qc8w_gemm_minmax_fp32_ukernel_4x16c4__neondot", "8-bit products"),
        ("xnn_qd8_f32_qc8w_gemm_minmax_ukernel_4x16c4__neondot", "8-bit products"),
        ("kai_run_matmul_clamp_f32_qai8dxp4x4_qsi8cxp4x4_16x4_neon_dotprod", "8-bit products"),
        ("kai_run_lhs_quant_pack_qai8dxp_f32", "quantizing and back"),
        ("xnn_x32_packw_gemm_gio_ukernel_x8__neon_u2", "packing"),
        ("xnn_qd8_f32_qc4w_gemm_minmax_ukernel_4x16c4__neondot", "4-bit products"),
        ("xnn_f32_gemm_minmax_ukernel_6x8__asm_aarch64_neonfma_cortex_a75", "float products"),
        ("xnn_f32_raddstoreexpminusmax_ukernel__neonfma_rr1_p5_u16", "softmax"),
        ("xnn_x32_transposec_ukernel__4x4_aarch64_neon_tbl128", "moving values"),
        ("xnn_f32_qs8_vcvt_ukernel__neonv8_u32", "quantizing and back"),
        ("PyEval_EvalFrame", REST),
    ],
)
def test_kinds_of_work(function, kind):
    assert kind_of(function) == kind


def test_the_rows_add_up():
    counts = Counter({"xnn_f32_vadd_ukernel": 1_000_000, "xnn_f32_vmul_ukernel": 2_000_000, "": 1_000_000})
    rows = rows_of("tiny224", "float32", "max", counts)
    assert [(row["work"], row["instructions_m"], row["share_percent"]) for row in rows] == [
        ("sums, products, norms", "3.0", "75.0"),
        (REST, "1.0", "25.0"),
    ]
    assert rows[0]["largest_kernel"] == "xnn_f32_vmul_ukernel"


def test_a_block_belongs_to_the_function_it_lies_in(monkeypatch, tmp_path):
    listed = "0000000000000100 T first\n0000000000000200 t second\n                 U elsewhere\n0000000000000180 D data\n"
    monkeypatch.setattr(arm_profile.subprocess, "run", lambda *_, **__: type("Done", (), {"stdout": listed}))
    library = tmp_path / "library.so"
    library.write_bytes(bytes(0x300))
    symbols = arm_profile.Symbols(library)
    assert [symbols.name(offset) for offset in (0x50, 0x100, 0x1FC, 0x2FF, 0x300)] == ["", "first", "first", "second", ""]
