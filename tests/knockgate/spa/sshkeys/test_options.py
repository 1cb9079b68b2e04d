"""The first and the last of what an option may say, and the one beyond."""

from __future__ import annotations

import calendar

import pytest

from knockgate.spa.sshkeys import BadKey, Flaw
from knockgate.spa.sshkeys.options import Options, parse


def read(text: str) -> Options:
    return parse(text.encode(), ours=True, local=calendar.timegm)


@pytest.mark.parametrize(
    ("last", "beyond"),
    [
        (
            'tunnel="2147483645"',
            'tunnel="2147483646"',
        ),  # the last two have a meaning of their own: SSH_TUNID_ERR, SSH_TUNID_ANY
        ('permitopen="host:65535"', 'permitopen="host:65536"'),
        (f'permitopen="{"h" * 1024}:1"', f'permitopen="{"h" * 1025}:1"'),
        (f'permitopen="{"h" * 1024}:1"', f'permitopen="{"h" * 1026}:1"'),
        ('permitopen="host:1"', 'permitopen="host:0"'),
        ('expiry-time="20301201"', 'expiry-time="20301301"'),
        ('expiry-time="20300101"', 'expiry-time="20300001"'),
        ('expiry-time="20300131"', 'expiry-time="20300132"'),
        ('expiry-time="20300101"', 'expiry-time="20300100"'),
        ('expiry-time="203001012300"', 'expiry-time="203001012400"'),
        ('expiry-time="203001010059"', 'expiry-time="203001010060"'),
        ('expiry-time="20300101000061"', 'expiry-time="20300101000062"'),
        ('expiry-time="19700101000001Z"', 'expiry-time="19700101000000Z"'),
        ('max-lease="1"', 'max-lease="0"'),
    ],
)
def test_bounds(last: str, beyond: str) -> None:
    read(last)
    with pytest.raises(BadKey) as bad:
        read(beyond)
    assert bad.value.flaw is Flaw.BAD_OPTION


def test_nothing_but_a_comma_stands_between_options() -> None:
    assert read("no-pty,no-touch-required") == Options(touch=False)
    for other in "+*!;.":
        with pytest.raises(BadKey) as bad:
            read(f"no-pty{other}no-touch-required")
        assert bad.value.flaw is Flaw.UNKNOWN_OPTION
