"""What the gate's own rules cost: loading a thousand doors, and what a packet pays for doors and networks."""

from __future__ import annotations

from collections.abc import Iterator

from bench.figures import Figure, Finding
from bench.lab import Lab
from bench.wire import DOOR, PORT
from knockgate.config.doors import parse
from knockgate.firewall.ruleset import compile_ruleset

__all__ = ["FIGURE"]

#: Nobody shall pay for answers: what passed the gate ends here.
_END = """\
table inet end {{
	chain end {{
		type filter hook prerouting priority -150
		tcp dport {port} drop
		ct state invalid drop
	}}
}}
"""


def _measure(lab: Lab, name: str) -> Iterator[Finding]:  # noqa: ARG001 - there is one
    frame = lab.syn("10.250.0.2", 81)
    for count in (0, 1, 1000):
        lab.clear()
        lab.load(_END.format(port=81))
        loading = lab.load(compile_ruleset(parse(_many(count)))) if count else None
        values = {
            "packet_ns": round(lab.cost(frame)),
            "load_ms": None if loading is None else round(loading * 1e3, 1),
        }
        yield Finding(f"{count:,} doors; unrelated packet", values)
    frame = lab.syn("10.250.0.2", PORT)
    for case, text in _gates().items():
        lab.clear()
        lab.load(_END.format(port=PORT))
        lab.load(compile_ruleset(parse(text)))
        yield Finding(f"{case}; stranger's packet to a door", {"packet_ns": round(lab.cost(frame))})
    lab.clear()


def _many(count: int) -> str:
    return "".join(
        f'[doors.d{n}]\nports = ["tcp/{n + 1000}"]\n'
        f'sequence = {{ steps = ["tcp/{20000 + 3 * n}", "tcp/{20001 + 3 * n}", "tcp/{20002 + 3 * n}"] }}\n'
        for n in range(count)
    )


def _gates() -> dict[str, str]:
    """Texts of gates with the door that is measured, by what else is in them."""
    many = [f"{100 + n // 250}.{n % 250}.0.0/16" for n in range(1000)]
    heading = "[doors.bench]\n"
    return {
        "no networks": DOOR,
        "1 network of the gate's": f"[gate]\nallow = {many[:1]}\n{DOOR}",
        "1,000 networks of the gate's": f"[gate]\nallow = {many}\n{DOOR}",
        "1 network of the door's": DOOR.replace(heading, f"{heading}allow = {many[:1]}\n"),
        "1,000 networks of the door's": DOOR.replace(heading, f"{heading}allow = {many}\n"),
        "in shadow": f"[gate]\nshadow = true\n{DOOR}",
    }


FIGURE = Figure("rules", ("kernel",), _measure)
