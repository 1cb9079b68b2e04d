"""Whatever the kernel, a file or a program says, it is read without a crash."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from knockgate.doctor import kernel, rules, sshd, state
from knockgate.doctor.finding import Kind
from knockgate.doctor.ruleset import acts_of
from knockgate.firewall.netlink import attribute, nest, number32, string

SPECIAL = st.sampled_from(["listenaddress [", "listenaddress :", "port", "flush ruleset", " - "])
TEXT = st.lists(st.one_of(st.text(max_size=40), SPECIAL), max_size=20).map("\n".join)
NAMES = st.sampled_from(["payload", "immediate", "lookup", "target", "nat", "notrack", "fwd", "cmp", ""])


@given(st.lists(st.tuples(NAMES, st.binary(max_size=80)), max_size=8))
def test_expressions_of_rules(expressions: list[tuple[str, bytes]]) -> None:
    octets = b"".join(nest(1, string(1, name) + nest(2, rest)) for name, rest in expressions)
    verbs, _ = acts_of(octets)
    assert verbs <= {"notrack", "fwd", "rewrite", "tproxy", "nat"}
    for cut in range(0, len(octets), 7):
        acts_of(octets[:cut])


def test_expressions_that_count() -> None:
    def written(offset: int, size: int, *, base: int = 2) -> set[str]:
        parts = number32(2, base) + number32(3, offset) + number32(4, size) + number32(5, 1)
        return acts_of(nest(1, string(1, "payload") + nest(2, parts)))[0]

    assert written(2, 2) == written(0, 4) == written(16, 4, base=1) == {"rewrite"}
    assert written(8, 1, base=1) == written(4, 4) == set()
    read_only = number32(1, 1) + number32(2, 2) + number32(3, 2) + number32(4, 2)
    assert acts_of(nest(1, string(1, "payload") + nest(2, read_only)))[0] == set()
    no_track = string(1, "CT") + number32(2, 1) + attribute(3, b"\x01\x00" + bytes(30))
    helper = string(1, "CT") + number32(2, 1) + attribute(3, b"\x02\x00" + bytes(30))
    assert acts_of(nest(1, string(1, "target") + nest(2, no_track)))[0] == {"notrack"}
    assert acts_of(nest(1, string(1, "target") + nest(2, helper)))[0] == set()


@given(TEXT)
def test_texts(text: str) -> None:
    sshd.settings_of(text)
    list(kernel.judge_kernel(text))
    list(rules.judge_legacy("iptables", ["nat"], text))
    list(rules.judge_boot_file("/x", text, enabled=True))
    mounts = state.read_mounts(text)
    assert state.mount_of("/var/lib/x", mounts) in [*mounts, state.mount_of("/", [])]


@given(st.binary(max_size=400))
def test_files_of_keys(octets: bytes) -> None:
    assert {each.kind for each in sshd.judge_lines("/x", octets)} <= {Kind.LOCKED_OUT}
