"""`make mutants`, without cosmic-ray: the copy, what its tests say of a mutant, and what is explained."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import REPO
from tools.mutants import __main__ as command
from tools.mutants import explained, suites, table
from tools.mutants.explained import Explained, Wrong
from tools.mutants.making import Mutant

MODULES = suites.modules(REPO, [])


@pytest.mark.parametrize("module", MODULES)
def test_each_module_has_tests_of_its_own(module: str) -> None:
    """But a package's list of names."""
    if module.endswith("__init__"):
        return
    tests = suites.tests_of(REPO, module)
    assert tests and all((REPO / each).is_file() for each in tests)


def test_modules_are_chosen_by_name_and_by_folder() -> None:
    assert suites.modules(REPO, ["mechanisms/marks"]) == ["mechanisms/marks"]
    assert suites.modules(REPO, ["src/knockgate/mechanisms/marks.py"]) == ["mechanisms/marks"]
    assert set(suites.modules(REPO, ["spa", "mechanisms"])) == set(MODULES)
    with pytest.raises(suites.Nothing, match="mechanisms/mark"):
        suites.modules(REPO, ["mechanisms/mark"])


def test_what_is_explained_is_still_in_the_module() -> None:
    """Whether that makes a mutant only `make mutants` can say; this much is quick."""
    for each in explained.load():
        lines = [
            line.strip() for line in (REPO / suites.SOURCE / f"{each.module}.py").read_text().splitlines()
        ]
        assert all(line in lines for line in each.old.splitlines()), each


ONE = '[[survivor]]\nmodule = "m"\nwithin = "f"\nold = "a"\nnew = "b"\nwhy = "because"\n'


@pytest.mark.parametrize("text", [ONE + ONE, ONE.replace("because", " "), ONE + 'more = "x"\n'])
def test_what_explains_nothing_is_wrong(tmp_path: Path, text: str) -> None:
    file = tmp_path / "explained.toml"
    file.write_text(text)
    with pytest.raises(Wrong, match="number"):
        explained.load(file)
    file.write_text(ONE)
    assert explained.load(file) == [Explained("m", "f", "a", "b", "because")]


def test_an_explanation_without_its_mutant_is_wrong() -> None:
    reasons = [Explained("m", "f", "a", "b", "because")]
    explained.check(reasons, "m", [Mutant("f", "a", "b", "text"), Mutant("", "a", "b", "text")])
    explained.check(reasons, "another", [])
    with pytest.raises(Wrong, match="m, f: there is no mutant"):
        explained.check(reasons, "m", [Mutant("g", "a", "b", "text")])


# --- the table -----------------------------------------------------------------------------------------

ROW = table.Row("m", mutants=30, tried=20, caught=15, explained=3, date="2026-11-23", checksum="ab")


def test_the_table_is_kept_as_it_is_and_shown(tmp_path: Path) -> None:
    file = tmp_path / "mutants.json"
    assert table.load(file) == {}
    table.save(file, [ROW])
    assert table.load(file) == {"m": ROW}
    assert "| `m` | 30 | 20 | 15 | 3 | 2 | 90% | 2026-11-23 | `ab` |" in (tmp_path / "mutants.md").read_text()
    nearly, none = (
        replace(ROW, tried=300, caught=299, explained=0),
        replace(ROW, tried=0, caught=0, explained=0),
    )
    assert "| 1 | 99% |" in table.page([nearly]) and "| 0 | - |" in table.page([none])


def test_the_committed_page_is_made_of_the_committed_figures() -> None:
    rows = table.load(command.TABLE)
    assert command.TABLE.with_suffix(".md").read_text() == table.page(rows.values())
    assert set(rows) <= set(MODULES)


def test_a_row_of_a_module_that_has_changed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = "mechanisms/leases"
    monkeypatch.setattr(command, "TABLE", tmp_path / "mutants.json")
    assert command.main(["--check", module]) == 1
    assert capsys.readouterr().out == f"{module}: never tried\n"
    texts = [(REPO / suites.SOURCE / f"{module}.py").read_text()]
    texts += [(REPO / each).read_text() for each in suites.tests_of(REPO, module)]
    digest = hashlib.sha256("".join(texts).encode()).hexdigest()
    for checksum, status in ((digest[:12], 0), (digest[1:13], 1)):
        table.save(command.TABLE, [replace(ROW, module=module, checksum=checksum)])
        assert command.main(["--check", module]) == status
        assert (module in capsys.readouterr().out) is bool(status)


# --- a checkout with one module ------------------------------------------------------------------------

MODULE, TESTS = "src/product/even.py", ["tests/test_even.py"]
RIGHT = "def even(number):\n    return number % 2 == 0\n"
#: Of the same length, written in the same second.
WRONG = RIGHT.replace("== 0", "== 1")
ENDLESS = "while True: pass\n"

TRIED = f"""\
import sys
from pathlib import Path
from tools.mutants.trying import Copy, Unusable
copy = Copy(Path(sys.argv[1]), Path(sys.argv[2]))
if sys.argv[3:]:
    try:
        copy.measure({MODULE!r}, {TESTS!r})
    except Unusable:
        print("unusable")
    sys.exit()
took = copy.measure({MODULE!r}, {TESTS!r})
for text in ({WRONG!r}, {RIGHT!r}, {WRONG!r}, {ENDLESS!r}, "not Python", {RIGHT + "#"!r}):
    print(copy.survives({MODULE!r}, text, {TESTS!r}, 1 + 3 * took))
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    for name, text in {
        MODULE: RIGHT,
        "src/product/__init__.py": "",
        TESTS[0]: "from product.even import even\ndef test_even():\n    assert even(2) and not even(3)\n",
        "pyproject.toml": "[tool.pytest.ini_options]\naddopts = ['--import-mode=importlib']\n"
        "markers = ['long']\nfilterwarnings = ['error']\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    subprocess.run(["git", "init", "-q", folder], check=True)
    return folder


def tried(checkout: Path, *words: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", TRIED, checkout, checkout.parent / "build" / "tree", *words],
        cwd=REPO, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.split()


def test_mutants_are_caught_and_survive_in_a_copy(checkout: Path) -> None:
    """And the checkout keeps its text."""
    assert tried(checkout) == ["False", "True", "False", "False", "False", "True"]
    assert (checkout / MODULE).read_text() == RIGHT


def test_what_has_caught_one_goes_first(checkout: Path) -> None:
    ran = checkout.parent / "ran"
    before = f"def test_before():\n    with open({str(ran)!r}, 'a') as ran:\n        ran.write('x')\n"
    file = checkout / TESTS[0]
    file.write_text(before + file.read_text() + "    sum(range(500_000))  # so that it is the slow one\n")
    assert tried(checkout)[0] == "False"
    # Unchanged, at the first that is caught, at the one that passes and at the last one.
    assert ran.read_text() == "x" * 4


def test_tests_that_fail_by_themselves_say_nothing(checkout: Path) -> None:
    (checkout / MODULE).write_text(WRONG)
    assert tried(checkout, "only measure") == ["unusable"]
