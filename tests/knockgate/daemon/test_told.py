"""What a listener tells is taken as it is; what has its shape moves no terminal, what has not is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knockgate.daemon.told import EXPLAINED, STATUS, Misshapen, read

_CLOCK = {"state": "sure", "vouched": True, "not_before": 1795391880.0}
TOLD: dict[str, Any] = {
    "format": 1, "pid": 4711, "since": 86400.0,
    "doors": {"ssh": {"opened": 1, "by": {"packet": 1}, "last": None}},
    "recent": [{"door": None, "source": None, "by": "packet", "seconds_ago": 3.2}],
    "bounds": {"crowded": 0}, "heard": {"packets": 1, "lost": 0, "lost_reports": 0, "begun": 2},
    "packets": None,
    "sealed": {"opened": 1, "refused": {"not-ours": 2**40}, "strangers": {}, "keys": 3, "clock": _CLOCK},
    "warden": {"owned": True, "restored": 0},
}  # fmt: skip


def changed(*path: str | int, to: object) -> dict[str, Any]:
    found = copy.deepcopy(TOLD)
    within: Any = found
    for each in path[:-1]:
        within = within[each]
    within[path[-1]] = to
    return found


def test_what_a_listener_tells_is_taken_as_it_is() -> None:
    assert read(TOLD, STATUS) == TOLD


def test_what_it_has_beyond_that_is_left_out() -> None:
    assert read(TOLD | {"more": 1}, STATUS) == TOLD


@pytest.mark.parametrize(
    "wrong",
    [
        changed("pid", to="4711"),
        changed("pid", to=True),
        changed("pid", to=-1),
        changed("pid", to=2**63),
        changed("since", to=float("nan")),
        changed("since", to=float("inf")),
        changed("since", to=10**400),
        changed("since", to=-(2.0**36)),
        changed("sealed", "clock", "vouched", to=1),
        changed("recent", to={}),
        changed("recent", to=[[]]),
        changed("recent", 0, to={}),
        changed("doors", to=[1]),
        changed("doors", "ssh", to=None),
        changed("bounds", to=None),
        changed("heard", to={"packets": 1}),
        changed("bounds", "crowded", to="many"),
        {key: value for key, value in TOLD.items() if key != "warden"},
        None,
        [],
    ],
)
def test_what_has_another_shape_is_refused(wrong: object) -> None:
    with pytest.raises(Misshapen):
        read(wrong, STATUS)


def test_no_text_moves_a_terminal_be_it_a_key() -> None:
    escape = "\x1b[2J\u202e\ud800"
    spelled = "\\x1b[2J\\u202e\\ud800"
    assert read(changed("recent", 0, "by", to=escape), STATUS) == changed("recent", 0, "by", to=spelled)
    found = read(changed("heard", to=TOLD["heard"] | {escape: 1}), STATUS)
    assert found["heard"] == TOLD["heard"] | {spelled: 1}


@pytest.mark.parametrize("key", ["SHA256:short", "MD5:" + "A" * 43, "SHA256:" + "A" * 42 + "\n"])
def test_a_fingerprint_is_one(key: str) -> None:
    shape = EXPLAINED["knocks"][0]["fingerprint"]
    assert read("SHA256:" + "A" * 43, shape) == "SHA256:" + "A" * 43  # the control
    with pytest.raises(Misshapen):
        read(key, shape)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=50)
@given(value=_JSON, name=st.sampled_from(sorted(TOLD)))
def test_anything_in_the_place_of_anything(value: object, name: str) -> None:
    try:
        found = read(changed(name, to=value), STATUS)
    except Misshapen:
        return
    assert read(found, STATUS) == found
