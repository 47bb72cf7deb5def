"""The device table: the right row for every real name, no row for a look-alike, figures that follow from the architecture."""

from __future__ import annotations

import pytest

from mfu_doctor.devices import lookup
from mfu_doctor.devices.table import device_rows, rates

# Names as drivers spell them (each must hit exactly one row) and the bf16 (else fp16) dense peak in TFLOP/s.
NAMES = {
    "Tesla V100-SXM2-16GB": 125.3,
    "Tesla V100-SXM2-32GB": 125.3,
    "Tesla V100-DGXS-32GB": 125.3,
    "Tesla V100-PCIE-16GB": 113,
    "Tesla V100S-PCIE-32GB": 130.8,
    "Tesla T4": 65.13,
    "NVIDIA T4G": 65.13,
    "TITAN RTX": 130.5,
    "Quadro RTX 6000": 130.5,
    "Quadro RTX 8000": 130.5,
    "NVIDIA GeForce RTX 2080 Ti": 53.79,
    "NVIDIA A100-SXM4-40GB": 311.9,
    "NVIDIA A100-SXM4-80GB": 311.9,
    "A100-SXM4-80GB": 311.9,
    "NVIDIA A100-PCIE-40GB": 311.9,
    "NVIDIA A100 80GB PCIe": 311.9,
    "NVIDIA A100-PG509-200": 311.9,
    "NVIDIA A800-SXM4-80GB": 311.9,
    "NVIDIA A800 80GB PCIe": 311.9,
    "NVIDIA A800 40GB Active": 311.9,
    "NVIDIA A30": 165.2,
    "NVIDIA A10": 125,
    "NVIDIA A10G": 70.04,
    "NVIDIA A40": 149.7,
    "NVIDIA A16": 17.97,
    "NVIDIA A2": 18.12,
    "NVIDIA RTX A2000": 31.95,
    "NVIDIA RTX A4000": 76.68,
    "NVIDIA RTX A4500": 94.62,
    "NVIDIA RTX A5000": 111.1,
    "NVIDIA RTX A5500": 136.4,
    "NVIDIA RTX A6000": 154.8,
    "NVIDIA GeForce RTX 3060": 25.48,
    "NVIDIA GeForce RTX 3070": 40.63,
    "NVIDIA GeForce RTX 3080": 59.54,
    "NVIDIA GeForce RTX 3090": 71.16,
    "NVIDIA GeForce RTX 3090 Ti": 79.99,
    "NVIDIA L4": 121.2,
    "NVIDIA L40": 181,
    "NVIDIA L40G": 181,
    "NVIDIA L40S": 362.1,
    "NVIDIA L20": 118.7,
    "NVIDIA RTX 6000 Ada Generation": 364.2,
    "NVIDIA RTX 5880 Ada Generation": 277.1,
    "NVIDIA RTX 4000 Ada Generation": 106.9,
    "NVIDIA GeForce RTX 4060": 30.23,
    "NVIDIA GeForce RTX 4070": 58.29,
    "NVIDIA GeForce RTX 4070 Ti": 80.18,
    "NVIDIA GeForce RTX 4080": 97.47,
    "NVIDIA GeForce RTX 4090": 165.2,
    "NVIDIA GeForce RTX 4090 Laptop GPU": 79.38,
    "NVIDIA H100 80GB HBM3": 989.4,
    "NVIDIA H100 PCIe": 756.4,
    "NVIDIA H100 NVL": 835.3,
    "NVIDIA H200": 989.4,
    "NVIDIA H200 NVL": 835.3,
    "NVIDIA H800": 989.4,
    "NVIDIA H800 PCIe": 756.4,
    "NVIDIA H20": 148,
    "NVIDIA H20-3e": 148,
    "NVIDIA GH200 480GB": 989.4,
    "NVIDIA GH200 120GB": 989.4,
    "NVIDIA GH200 144G HBM3e": 989.4,
    "NVIDIA B100": 1750,
    "NVIDIA B200": 2250,
    "NVIDIA GB200": 2500,
    "NVIDIA B300 SXM6 AC": 2250,
    "NVIDIA GB300": 2500,
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": 503.8,
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": 503.8,
    "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition": 438.9,
    "NVIDIA RTX PRO 5000 Blackwell": 257.9,
    "NVIDIA GeForce RTX 5060 Ti": 47.41,
    "NVIDIA GeForce RTX 5070": 61.73,
    "NVIDIA GeForce RTX 5080": 112.6,
    "NVIDIA GeForce RTX 5090": 209.5,
    "NVIDIA GB10": 125,
    "NVIDIA Thor": 258,
    "Orin": 42.6,
    "AMD Instinct MI100": 92.28,
    "AMD Instinct MI210": 181,
    "AMD Instinct MI250X": 191.5,
    "AMD Instinct MI250X / MI250": 191.5,
    "AMD Instinct MI300A": 980.6,
    "AMD Instinct MI300X": 1307,
    "AMD Instinct MI325X": 1307,
    "AMD Instinct MI350X": 2307,
    "AMD Instinct MI355X": 2517,
    "AMD Radeon RX 7900 XTX": 122.8,
    "AMD Radeon PRO W7900": 122.6,
    "AMD Radeon RX 9070 XT": 194.6,
    "Intel(R) Data Center GPU Max 1550": 838.9,
    "Intel(R) Arc(TM) A770 Graphics": 137.6,
    "GAUDI2": 432,
    "GAUDI3": 1835,
    "TPU v5p": 459,
    "TPU v5e": 197,
    "Trainium2": 667,
    "Apple M4 Max": 16.16,
}

LOOK_ALIKES = (
    "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
    "NVIDIA A100-SXM4-80GB MIG 3g.40gb",
    "GRID A100-40C",
    "NVIDIA A10-12Q",
    "NVIDIA L40S-48Q",
    "AMD Radeon Graphics",
    "NVIDIA GeForce RTX 2080 Super with Max-Q Design",
    "NVIDIA GeForce RTX 2070 Laptop GPU",
    "NVIDIA RTX A4000 Laptop GPU",
    "NVIDIA RTX 5000 Ada Generation Laptop GPU",
    "NVIDIA A100",
    "",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_real_name_hits_exactly_one_row(name: str) -> None:
    """Other tools match by substring: `NVIDIA L40S` becomes an L4, `RTX A4000` an A40."""
    assert len([row for row in device_rows() if row.is_named(name)]) == 1
    row = lookup(name)
    assert row is not None
    assert row.dense.get("bf16", row.dense.get("fp16")) == pytest.approx(NAMES[name] * 1e12)


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_a_name_that_only_looks_alike_hits_no_row(name: str) -> None:
    """Slices, virtual GPUs and laptops run at other rates than the board whose name they contain."""
    assert lookup(name) is None


def test_laptop_boards_have_rows_of_their_own() -> None:
    """A laptop's 4090 has 76 of the desktop board's 128 multiprocessors."""
    laptop, desktop = lookup("NVIDIA GeForce RTX 4090 Laptop GPU"), lookup("NVIDIA GeForce RTX 4090")
    assert laptop is not None
    assert desktop is not None
    assert (laptop.sms, desktop.sms) == (76, 128)


def test_every_row_names_its_source_and_confidence() -> None:
    """A peak without a source cannot be argued with."""
    counted = {c: sum(row.confidence == c for row in device_rows()) for c in ("vendor", "derived", "unverified")}
    assert counted == {"vendor": 104, "derived": 64, "unverified": 16}
    assert all(len(row.source) > 3 and row.dense for row in device_rows())


def test_vendor_figures_are_reproduced_by_units_times_clock_times_rate() -> None:
    """Each published figure must follow from first principles within 1.2 %, or a typo has crept into the table."""
    checked = 0
    for row in device_rows():
        if row.confidence != "vendor" or not row.rate_key or not row.boost_hz or not row.sms or "H20" in row.pattern:
            continue
        for dtype in ("fp16", "bf16", "tf32"):
            rate = rates()[row.rate_key].get(dtype)
            if rate is None or dtype not in row.dense:
                continue
            checked += 1
            assert row.dense[dtype] == pytest.approx(row.sms * row.boost_hz * rate, rel=0.012), (row.source, dtype)
    assert checked > 150


def test_only_formats_that_the_device_computes_have_a_peak() -> None:
    """A V100 has no bf16 units and an A100 no fp8 ones: an absent peak is absent, not zero."""
    v100, a100 = lookup("Tesla V100-SXM2-16GB"), lookup("NVIDIA A100-SXM4-80GB")
    assert v100 is not None
    assert a100 is not None
    assert "bf16" not in v100.dense
    assert "fp8" not in a100.dense


@pytest.mark.parametrize("name", NAMES)
def test_upper_and_lower_case_are_the_same_name(name: str) -> None:
    assert lookup(name.lower()) == lookup(name) == lookup(name.upper())


def test_the_table_holds_one_pattern_per_line_that_cannot_match_inside_a_longer_name() -> None:
    """Unanchored patterns are how substring tables went wrong."""
    for row in device_rows():
        assert row.pattern.startswith("^")
        assert row.pattern.endswith("$")


NO_TENSOR_CORES = ("Tesla P4", "Tesla P40", "NVIDIA T1000", "NVIDIA T1000 8GB", "NVIDIA T600", "NVIDIA T400 4GB")


@pytest.mark.parametrize("name", [*NO_TENSOR_CORES, "NVIDIA GeForce GTX 1650", "NVIDIA GeForce GTX 1660 SUPER"])
def test_a_card_without_tensor_cores_has_no_16_bit_rate_above_fp32(name: str) -> None:
    row = lookup(name)
    assert row is not None
    assert max(row.dense.get("fp16", 0.0), row.dense.get("bf16", 0.0)) < row.dense["fp32"]


def test_a_p100_has_the_fp16_rate_that_its_vendor_states() -> None:
    row = lookup("Tesla P100-SXM2-16GB")
    assert row is not None
    assert row.dense["fp16"] == 21.22e12
