"""Coverage-guided fuzzing; `make fuzz`. What it finds is in ``corpus``, which `make test` runs."""

from __future__ import annotations

__all__ = ["MODULES"]

#: Where each target is: in ``TARGETS`` of that module, under its own name. Its corpus has the same name.
MODULES = {
    target: f"fuzz.{module}"
    for module, targets in {
        "targets": ("packet", "text", "values"),
        "ssh_targets": ("authorized", "answer", "signature", "private"),
        "sealed_targets": ("message", "card"),
        "wire_targets": ("frame", "filter", "report", "link", "capture"),
        "file_targets": ("gate", "gatekeys", "secrets", "profiles", "devices", "device", "line"),
    }.items()
    for target in targets
}
