"""The first and the last of what an option may say, and the one beyond."""

from __future__ import annotations

import calendar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

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
        ('expiry-time="20300101Z"', 'expiry-time="20300001Z"'),
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


def test_zeros_in_front_of_a_number_are_nothing_however_many() -> None:
    """Python's ``int`` refuses more than 4,300 digits; strtonum(3) does not."""
    zeros = "0" * 5000
    for written in (f'tunnel="{zeros}7"', f'permitopen="host:{zeros}80"'):
        assert read(written) == read("no-pty")
        with pytest.raises(BadKey):
            read(written.replace('"', '"x', 1).replace("host:", "host:x"))


def test_what_is_shown_of_an_option_is_its_beginning() -> None:
    with pytest.raises(BadKey) as bad:
        read("a" * 30 + "b" * 30)
    assert bad.value.key == "a" * 30 + "b" * 10


def test_the_machine_is_asked_for_a_time_without_summer_time() -> None:
    asked = []

    def local(date: tuple[int, ...]) -> float:
        asked.append(date)
        return 1.0

    found = parse(b'expiry-time="203007021504"', ours=True, local=local)
    assert (found.expires, asked) == (1, [(2030, 7, 2, 15, 4, 0, 0, 1, 0)])
    assert parse(b'expiry-time="203007021504Z"', ours=True, local=local).expires == 1909235040
    assert len(asked) == 1  # control: with Z nobody is asked


@given(year=st.integers(1970, 9999), month=st.integers(1, 12), day=st.integers(1, 31))
@example(2000, 2, 30)
@example(2100, 2, 29)
@example(2400, 3, 1)
def test_days_are_counted_as_a_calendar_does(year: int, month: int, day: int) -> None:
    """``read`` asks Python's calendar for a local time; of a time with Z we count the days ourselves."""
    text = f"{year:04}{month:02}{day:02}2359"
    assert read(f'expiry-time="{text}Z"').expires == read(f'expiry-time="{text}"').expires
