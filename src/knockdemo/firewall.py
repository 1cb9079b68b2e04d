"""Lane A's nftables: one table, two sets whose elements the kernel expires, and who is added to them.

The table is replaced as a whole in one transaction, so loading twice is loading once. Everything
goes through ``nft -f -``: text in, one exit status out, nothing for a shell to misread.
"""

from __future__ import annotations

import subprocess

from knockdemo.config import Config
from knockgate.errors import Unavailable
from knockgate.model import Source, address_text

__all__ = ["authorize", "base_ruleset", "is_loaded", "load", "remove"]

#: By this a table is known as ours, whatever the configuration calls its sets.
_MARK = "knockdemo lane A"


def base_ruleset(config: Config) -> str:
    """The text that closes the service port to everybody but the members of the two sets.

    ``add`` makes sure that ``delete`` finds a table; what follows is the fresh one.
    """
    port = config.service_port
    return f"""\
add table inet {config.nft_table}
delete table inet {config.nft_table}
table inet {config.nft_table} {{
	comment "{_MARK}"
	set {config.nft_set} {{
		type ipv4_addr
		flags timeout
	}}
	set {config.nft_set6} {{
		type ipv6_addr
		flags timeout
	}}
	chain input {{
		type filter hook input priority filter; policy accept;
		tcp dport {port} ip saddr @{config.nft_set} accept
		tcp dport {port} ip6 saddr @{config.nft_set6} accept
		tcp dport {port} drop
	}}
}}
"""


def load(config: Config) -> None:
    """Put the fresh table in force; whoever was in the old one's sets is shut out.

    Raises Unavailable when a table of that name is there which is not ours: replacing it would take
    somebody else's firewall away.
    """
    if is_loaded(config) and f'comment "{_MARK}"' not in _nft(f"list table inet {config.nft_table}\n"):
        raise Unavailable(
            f"the table inet {config.nft_table} is there already, and is not ours",
            hint="set nft_table to another name, or remove that table if nobody needs it",
        )
    _nft(base_ruleset(config))


def is_loaded(config: Config) -> bool:
    """Whether a table of that name is in force."""
    return config.nft_table in _nft("list tables inet\n").split()


def authorize(source: Source, config: Config) -> None:
    """Let ``source`` (4 or 16 bytes) in for the full open window from now on.

    Adding an element that is there already does not renew its time, and deleting one that is not
    there fails: so add, delete, add, in one transaction.
    """
    name = config.nft_set if len(source) == 4 else config.nft_set6
    target = f"element inet {config.nft_table} {name}"
    member = f"{{ {address_text(source)} timeout {config.open_window_seconds}s }}"
    _nft(f"add {target} {member}\ndelete {target} {member}\nadd {target} {member}\n")


def remove(config: Config) -> None:
    """Take the table away; the service port is unguarded from then on."""
    _nft(f"add table inet {config.nft_table}\ndelete table inet {config.nft_table}\n")


def _nft(text: str) -> str:
    """Run commands in one transaction; returns what nft prints, raises Unavailable with its words."""
    try:
        done = subprocess.run(
            ["nft", "-f", "-"], input=text, capture_output=True, text=True, timeout=10, check=False
        )
    except FileNotFoundError:
        raise Unavailable("nft is not installed", hint="apt install nftables") from None
    except OSError as error:  # not executable, or a folder of PATH that may not be searched
        raise Unavailable(f"nft cannot be run: {error.strerror}", hint="apt install nftables") from None
    except subprocess.TimeoutExpired:
        raise Unavailable("nft did not answer within 10 seconds") from None
    if done.returncode:
        message = next(iter(done.stderr.strip().splitlines()), f"exit status {done.returncode}")
        hint = "run it as root" if "not permitted" in message else None
        raise Unavailable(f"nft refused the rules: {message}", hint=hint)
    return done.stdout
