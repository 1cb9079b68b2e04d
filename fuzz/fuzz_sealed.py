"""The same as ``fuzz_fwknop``, at the targets of our packet: ``python -m fuzz.fuzz_sealed TARGET ...``."""

from __future__ import annotations

from fuzz.fuzz_fwknop import main

if __name__ == "__main__":
    main("fuzz.fuzz_sealed", "fuzz.sealed_targets")
