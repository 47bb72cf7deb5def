"""Is the device itself slowed down? The rules of this family, in the order in which lists show them."""

from mfu_doctor.rules.contract import Rule
from mfu_doctor.rules.device.held_queue import held_queue
from mfu_doctor.rules.device.low_clocks import low_clocks
from mfu_doctor.rules.device.power_cap import power_cap
from mfu_doctor.rules.device.shared_device import shared_device
from mfu_doctor.rules.device.slow_pcie_link import slow_pcie_link
from mfu_doctor.rules.device.thermal_throttle import thermal_throttle

RULES: tuple[Rule, ...] = (
    thermal_throttle,
    power_cap,
    shared_device,
    low_clocks,
    slow_pcie_link,
    held_queue,
)
