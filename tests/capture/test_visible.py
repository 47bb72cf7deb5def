"""CUDA_VISIBLE_DEVICES as CUDA reads it, without CUDA: the wrong card must not be sampled in silence."""

from __future__ import annotations

import pytest

from mfu_doctor.capture.device.visible_devices import visible_targets

UUIDS = ("GPU-aa11", "GPU-aa22", "GPU-bb33")
SAME = ("H100", "H100", "H100")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", ()),
        ("0,2", (0, 2)),
        ("2,0", (2, 0)),
        (" 1 , 2", (1, 2)),
        ("1gpu2", (1,)),  # read up to the first other character
        ("0,-1,2", (0,)),  # a negative number ends the list
        ("0,9,1", (0,)),  # so does a device that does not exist
        ("0,x", (0,)),
        ("0,1,0", ()),  # a repeated device hides all
        ("GPU-bb", (2,)),  # a short UUID that fits one
        ("GPU-aa", ()),  # and one that fits two
        ("GPU-aa22,GPU-aa11", (1, 0)),
        ("MIG-1234", ("MIG-1234",)),
        ("MIG-1234,MIG-5678", ("MIG-1234",)),  # a process sees one MIG instance
    ],
)
def test_the_variable_selects_devices_as_cuda_does(value: str, expected: tuple[int | str, ...]) -> None:
    assert visible_targets({"CUDA_VISIBLE_DEVICES": value}, UUIDS, SAME)[0] == expected


def test_all_devices_are_visible_without_the_variable() -> None:
    assert visible_targets({}, UUIDS, SAME) == ((0, 1, 2), None)


def test_numbers_on_a_machine_with_different_cards_are_uncertain_unless_in_pci_order() -> None:
    mixed = ("H100", "T4", "T4")
    environ = {"CUDA_VISIBLE_DEVICES": "1"}
    assert visible_targets(environ, UUIDS, mixed)[1] is not None
    assert visible_targets(environ | {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, UUIDS, mixed)[1] is None
    assert visible_targets(environ, UUIDS, SAME)[1] is None
    assert visible_targets({"CUDA_VISIBLE_DEVICES": "GPU-aa11"}, UUIDS, mixed)[1] is None
