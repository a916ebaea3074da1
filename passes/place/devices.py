"""stub"""
from ...ir.machine import Machine
def has_several(machine: Machine) -> bool:
    return len({d.memory for d in machine.devices}) > 1
def place_devices(*a): raise NotImplementedError
