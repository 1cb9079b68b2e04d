"""The same as ``fuzz_fwknop``, at the targets of SSH keys: ``python -m fuzz.fuzz_sshkeys TARGET ...``."""

from __future__ import annotations

from fuzz.fuzz_fwknop import main

if __name__ == "__main__":
    main("fuzz.fuzz_sshkeys", "fuzz.ssh_targets")
