"""Which tests belong to a module.

Those of its own name below ``tests``, and what is written down here. Each list is those that a reader would
look into when they want to know what the module is held to, the quick ones first; not the whole suite, in
which nearly every mutant breaks something somewhere and nobody could say what.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["MODULES", "Nothing", "modules", "tests_of"]

SOURCE, TESTS = "src/knockgate", "tests/knockgate"
#: Below ``SOURCE``.
MODULES = ("mechanisms", "spa")

_SSHKEYS = [
    f"spa/sshkeys/test_{each}.py" for each in ("keys", "sources", "files", "sshsig", "vectors", "corpus")
]
_SEALED = [f"spa/{each}.py" for each in ("test_dates", "test_sealed_vectors", "test_sealed_corpus")]
_SEALED += ["spa/test_sealed_packet.py", "spa/test_sealed_flaws.py"]
_FWKNOP = [f"spa/test_{each}.py" for each in ("vectors", "keyring", "packets", "flaws", "oracle", "corpus")]

#: Beside those of its name, by a module or by what it begins with; of several the longest counts.
_BESIDES: dict[str, Sequence[str]] = {
    "mechanisms/marks": ["mechanisms/test_marks_life.py"],
    "mechanisms/knocks": ["mechanisms/test_sequence.py"],
    "mechanisms/sealed": [
        f"mechanisms/test_{each}.py" for each in ("sealed_steps", "sealed_policy", "sealed_life")
    ],
    "mechanisms/sequence": ["mechanisms/test_counted.py", "mechanisms/test_sequence_model.py"],
    "spa/agent": ["spa/sshkeys/test_corpus.py"],
    "spa/fwknop/": _FWKNOP,
    "spa/sealed/": _SEALED,
    "spa/sealed/card": ["spa/test_sealed_card.py", *_SEALED],
    "spa/sealed/dates": ["spa/test_dates.py"],
    "spa/sealed/message": [*_SEALED, "spa/test_sealed_random.py", "spa/test_sealed_oracle.py"],
    "spa/sshkeys/": _SSHKEYS,
    "spa/sshkeys/options": ["spa/sshkeys/test_files.py", "spa/sshkeys/test_corpus.py"],
    "spa/sshkeys/sources": ["spa/sshkeys/test_sources.py", "spa/sshkeys/test_files.py"],
}


class Nothing(Exception):
    """There is no such module, or no test of it."""


def modules(checkout: Path, wanted: Sequence[str]) -> list[str]:
    """By name, as ``mechanisms/marks``: all, or those that are one of ``wanted`` or below it."""
    found = sorted(
        str(file.relative_to(checkout / SOURCE).with_suffix(""))
        for each in MODULES
        for file in (checkout / SOURCE / each).rglob("*.py")
    )
    chosen: list[str] = []
    for each in wanted or MODULES:
        name = each.removeprefix(f"{SOURCE}/").removesuffix(".py").rstrip("/")
        some = [module for module in found if module == name or module.startswith(f"{name}/")]
        if not some:
            raise Nothing(f"there is no module {each}; one is for example {found[-1]}")
        chosen += [module for module in some if module not in chosen]
    return chosen


def tests_of(checkout: Path, module: str) -> list[str]:
    """The files with the tests of a module, none twice."""
    begun = max((each for each in _BESIDES if module.startswith(each)), key=len, default="")
    folder, _, name = module.rpartition("/")
    own = f"{folder}/test_{name}.py"
    names = dict.fromkeys([own, *_BESIDES.get(begun, ())])
    found = [f"{TESTS}/{each}" for each in names if each != own or (checkout / TESTS / each).exists()]
    if not found:
        raise Nothing(f"no tests belong to {module}: tools/mutants/suites.py")
    return found
