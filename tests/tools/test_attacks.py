"""`make attacks`, without the attacks: its file, and the page that is made of it alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.attacks.figures import VARIABLE, figure
from tests.conftest import REPO
from tools.attacks import __main__ as command
from tools.attacks.page import NAME, page
from tools.attacks.results import KINDS, Attack, Results, Wrong, read

MACHINE = {
    "cpu": "a processor", "cores": 3, "virtual": True, "memory_GB": 8.5, "kernel": "Linux 9",
    "system": "Debian", "python": "3.11.2", "rights": "root",
}  # fmt: skip
ONE = Attack(
    "replay.of | one", "tests/attacks/test_x.py::test_x", 1234, 0, 2, 7, "a new one opens",
    {"took_s": 1.25, "more_kb": {"warden": 0, "listener": 76}, "in_share": 0.795, "why": "stale"},
)  # fmt: skip


def results(*attacks: Attack, **change: str) -> Results:
    found = Results(MACHINE, {"knockd": "0.8"}, "2026-11-23", 61, 5, change, attacks)
    assert found.day
    return found


def lines(folder: Path, *attacks: Attack) -> Path:
    """As the tests write them, through their own function."""
    file = folder / "figures"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(file))
        for each in attacks:
            patch.setenv("PYTEST_CURRENT_TEST", f"{each.test} (call)")
            figure(
                each.figure, tries=each.tries, wrongly=each.wrongly, known=each.known, rightly=each.rightly,
                control=each.control, **each.bounds,  # type: ignore[arg-type]
            )  # fmt: skip
    return file


def of_each_kind() -> list[Attack]:
    return [replace(ONE, figure=f"{kind}.x") for kind in KINDS]


def test_figures_are_read_as_they_were_told_in_the_order_of_the_page(tmp_path: Path) -> None:
    found = read(lines(tmp_path, *reversed(of_each_kind())))
    assert list(found) == of_each_kind()


def test_of_a_figure_that_is_there_twice_the_one_with_more_tries_is_told(tmp_path: Path) -> None:
    few, many = replace(ONE, tries=1), replace(ONE, tries=2)
    others = [each for each in of_each_kind() if each.kind != "replay"]
    for order in ((few, many), (many, few)):
        (tmp_path / "figures").unlink(missing_ok=True)
        assert [each for each in read(lines(tmp_path, *order, *others)) if each.kind == "replay"] == [many]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"wrongly": 1}, "1 of 1234 came through"),
        ({"rightly": 0}, "has no control"),
        ({"control": ""}, "has no control"),
        ({"tries": 0}, "was not tried"),
        ({"test": ""}, "was not tried"),
        ({"figure": "magic.x"}, "of no kind"),
    ],
)
def test_what_would_make_no_page(change: dict[str, object], says: str, tmp_path: Path) -> None:
    wrong = replace(ONE, **change)  # type: ignore[arg-type]
    with pytest.raises(Wrong, match=says):
        read(lines(tmp_path, *of_each_kind(), wrong))


def test_that_something_came_through_is_told_by_fewer_tries_too(tmp_path: Path) -> None:
    through = replace(ONE, figure="replay.x", tries=1, wrongly=1)
    with pytest.raises(Wrong, match="1 of 1 came through"):
        read(lines(tmp_path, through, *of_each_kind()))


def test_a_kind_that_nobody_attacked_is_missed(tmp_path: Path) -> None:
    some = [each for each in of_each_kind() if each.kind != "frames"]
    with pytest.raises(Wrong, match="in this way: frames"):
        read(lines(tmp_path, *some))


def test_the_file_comes_back_as_it_was(tmp_path: Path) -> None:
    found, file = results(ONE, **{"a::b": "no TUN"}), tmp_path / "x.json"
    found.save(file)
    assert Results.load(file) == found
    assert [each.name for each in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("text", ["", "{}", '{"format": 0}', '{"format": 1, "attacks": [{}]}'])
def test_what_is_no_such_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(Wrong):
        Results.load(tmp_path / "x.json")


def test_the_page_has_each_number_of_the_file() -> None:
    text = page(results(ONE, replace(ONE, figure="day.a day", tries=1), **{"a::b": "no TUN here"}))
    assert (
        "| of \\| one | 1,234 | 0 | 2 | 7 | took: 1.25 s; more: warden 0, listener 76 kB; in: 79.5 %; "
        "why: stale | a new one opens | [test_x](../tests/attacks/test_x.py) |"
    ) in text
    assert "2 attacks, 1,235 tries: **0 opened wrongly**, 4 as is known" in text
    assert "14 honest ones did what they should. 5 tests passed in 61 s." in text
    assert "a processor, 3 virtual cores, 8.5 GB; Debian, Linux 9;" in text and "knockd 0.8." in text
    assert "on 2026-11-23" in text and "* `a::b`: no TUN here" in text
    assert "## Replay\n" in text and "## A day" in text and "## Tampering" not in text


def test_the_page_has_no_figure_of_its_own() -> None:
    """Where all that is in the file is another number, so is all that is on the page."""
    seven = replace(ONE, figure="replay.x", tries=7, known=7, rightly=7, wrongly=7, bounds={"x_s": 7})
    machine = MACHINE | {"cores": 7, "memory_GB": 7, "kernel": "Linux 7", "python": "7"}
    text = page(Results(machine, {"knockd": "7"}, "7", 7, 7, {}, (seven,)))
    prose = text.partition("| column |")[0] + text.partition("## Replay")[2]
    assert {each for each in prose if each.isdigit()} == {"7", "1"}  # "1": there is one attack
    assert prose.count("1") == 1


def test_a_run_in_which_a_test_fails_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_FIGURES", tmp_path / "build" / "figures")
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setattr(pytest, "main", lambda *_, **__: pytest.ExitCode.TESTS_FAILED)
    assert command.main(["--report", str(tmp_path / "docs")]) == 2
    assert not (tmp_path / "docs").exists()

    def passes(*_: object, **__: object) -> pytest.ExitCode:
        lines(tmp_path / "build", *of_each_kind())  # behind what is there of a run of before
        return pytest.ExitCode.OK

    lines(tmp_path / "build", replace(ONE, figure="replay.of before"))
    monkeypatch.setattr(pytest, "main", passes)  # the control
    assert command.main(["--report", str(tmp_path / "docs")]) == 0
    assert sorted(each.name for each in (tmp_path / "docs").iterdir()) == ["attacks.json", "attacks.md"]
    assert "of before" not in (tmp_path / "docs" / "attacks.json").read_text()
    again = tmp_path / "again"
    assert command.main(["--again", str(tmp_path / "docs" / "attacks.json"), "--report", str(again)]) == 0
    for each in (tmp_path / "docs").iterdir():
        assert (again / each.name).read_text() == each.read_text()


def test_what_was_not_tried_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole file, a test, and what an option leaves out."""
    suite = tmp_path / "attacks"
    suite.mkdir()
    (suite / "test_a.py").write_text(
        "import pytest\ndef test_one(): pass\ndef test_two(): pytest.skip('no TUN')\ndef test_three(): pass\n"
    )
    (suite / "test_b.py").write_text("import pytest\npytest.skip('no sshd', allow_module_level=True)\n")
    outcomes = command.Outcomes()
    monkeypatch.chdir(tmp_path)
    argv = ["-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir=.", "-k", "not three", "attacks"]
    assert pytest.main(argv, plugins=[outcomes]) == pytest.ExitCode.OK
    assert outcomes.passed == 1
    assert {name.rpartition("/")[2]: why for name, why in outcomes.left_out.items()} == {
        "test_a.py::test_two": "no TUN",
        "test_b.py": "no sshd",
        "test_a.py::test_three": "was not asked for",
    }


def test_the_page_that_is_committed_is_that_of_its_file() -> None:
    file = REPO / "docs" / f"{NAME}.json"
    found = Results.load(file)
    assert file.with_suffix(".md").read_text() == page(found)
    assert json.loads(file.read_text())["passed"] == found.passed
    for each in found.attacks:
        assert (REPO / each.test.partition("::")[0]).is_file(), each.test
