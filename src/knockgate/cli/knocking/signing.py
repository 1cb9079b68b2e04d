"""Which SSH keys sign the knocks of one command, in turn, and what became of each.

A knock is not answered, so the one way to find the key that a gate takes is to try them. Keys that need
nobody come first; those that ask somebody come last, and only where there is somebody to be asked. Of neither
are there more than sshd would take: an agent may be anybody's, and have thousands.
"""

from __future__ import annotations

import os
from pathlib import Path

from knockgate.cli.terminal import say
from knockgate.client import identities
from knockgate.client.identities import Candidate, Needs, Skipped, Where
from knockgate.client.ssh_keygen import somebody_is_there as _somebody_is_there
from knockgate.errors import KnockgateError, Unavailable
from knockgate.spa.sshkeys import PublicKey, Signature, fingerprint_text

__all__ = ["MOST", "Keys", "fingerprint", "key_facts", "key_in_words", "needs_in_words"]

MOST = 6
"""Of those that need nobody, and of the others. sshd ends a connection after as many (MaxAuthTries)."""


def fingerprint(key: PublicKey) -> str:
    """As ``ssh-keygen -l`` shows it."""
    return fingerprint_text(key.fingerprint)


class Keys:
    """The keys that are there for a host, and the next one to sign with."""

    def __init__(self, host: str, identity: Path | None) -> None:
        """Asks ssh and its agent, and nobody else. Raises Unavailable."""
        found = identities.find(host, identity=identity, agent=os.environ.get("SSH_AUTH_SOCK") or None)
        self._host = host
        #: Not tried, and why.
        self.skipped = list(found.skipped)
        #: Those that can sign, in the order in which they are tried.
        self.waiting = self._ordered(found.candidates, chosen=identity is not None)
        self._failures: list[tuple[Candidate, KnockgateError]] = []

    def _ordered(self, found: tuple[Candidate, ...], *, chosen: bool) -> list[Candidate]:
        quiet = [each for each in found if not each.needs]
        asking = [each for each in found if each.needs]
        for each in quiet[MOST:] + asking[MOST:]:
            self._skip(each, f"{MOST} others come before it", "-i FILE takes it alone")
        if chosen or _somebody_is_there():
            return quiet[:MOST] + asking[:MOST]
        for each in asking[:MOST]:
            self._skip(each, f"{needs_in_words(each)}, and there is no terminal to ask at", _hint(each))
        return quiet[:MOST]

    def _skip(self, each: Candidate, why: str, hint: str | None) -> None:
        self.skipped.append(Skipped(each.name, each.where, why, hint))

    def take(self) -> Candidate | None:
        """The next one; None: there is no more."""
        return self.waiting.pop(0) if self.waiting else None

    def sign(self, candidate: Candidate, message: bytes) -> Signature:
        """What it signs, after a word to the one who has to act; raises as ``Candidate.sign`` does."""
        if candidate.where is Where.AGENT and candidate.needs & Needs.TOUCH:
            say(f"touch the token of {candidate.name}")  # an agent asks nobody; ssh-keygen does by itself
        elif candidate.needs & Needs.PASSPHRASE:
            say(f"sign the knock with {candidate.name}")  # ssh-keygen does not say of which file it asks
        return candidate.sign(message)

    def failed(self, candidate: Candidate, error: KnockgateError) -> None:
        """Note that it did not sign."""
        self._failures.append((candidate, error))
        self._skip(candidate, error.message, error.hint)

    def none_left(self) -> KnockgateError:
        """The error where no key has signed anything."""
        if len(self._failures) == 1:
            return self._failures[0][1]
        if self._failures:
            candidate, error = self._failures[0]
            message = f"none of {len(self._failures)} SSH keys signs; {candidate.name}: {error.message}"
            return Unavailable(message, hint=error.hint)
        if not self.skipped:
            make = "make one, and give its .pub to the gate's admin: ssh-keygen -t ed25519"
            hint = f"{make}; or name one: -i FILE, or identity in the profile"
            return Unavailable(f"there is no SSH key for {self._host}", hint=hint)
        first, more = self.skipped[0], len(self.skipped) - 1
        others = f" ({more} more: --dry-run lists them)" if more else ""
        return Unavailable(f"no SSH key can knock: {first.name}: {first.why}{others}", hint=first.hint)


def _hint(candidate: Candidate) -> str:
    if candidate.needs & Needs.TOUCH:
        return "knock where somebody can touch it, or take another key: -i FILE"
    return f"an agent signs without asking: ssh-add {candidate.name}"


def needs_in_words(candidate: Candidate) -> str:
    """What somebody will be asked for; empty where nobody is."""
    parts = {Needs.PASSPHRASE: "a passphrase", Needs.TOUCH: "a touch"}
    said = " and ".join(text for need, text in parts.items() if candidate.needs & need)
    return f"needs {said}" if said else ""


def key_in_words(candidate: Candidate) -> str:
    """``SHA256:... (/home/jo/.ssh/id_ed25519, by the agent)``."""
    by = ", by the agent" if candidate.where is Where.AGENT else ""
    return f"{fingerprint(candidate.key)} ({candidate.name}{by})"


def key_facts(candidate: Candidate) -> dict[str, object]:
    """The same for programs."""
    return {
        "fingerprint": fingerprint(candidate.key),
        "kind": candidate.key.kind.ssh,
        "name": candidate.name,
        "where": candidate.where.value,
        "needs": [need.name.lower() for need in Needs if candidate.needs & need and need.name],
    }
