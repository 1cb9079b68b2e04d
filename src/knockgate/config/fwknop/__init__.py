"""fwknop's files: access.conf and fwknopd.conf as a gate.toml, .fwknoprc as profiles.

::

    lines, words          what all three files have in common
    access                access.conf and what it includes -> sections
    options, reading      a section -> Stanza
    commands              CMD_CYCLE_OPEN and CMD_CYCLE_CLOSE -> Commands
    settings              fwknopd.conf -> Settings
    plan                  stanzas -> doors and keys
    translate             the gate.toml, and the files with the secrets
    rc_options, profiles  .fwknoprc -> profiles.toml
    findings              what differs, and what is refused

Whatever cannot be done is refused, with its line and a reason; whatever is done differently is a note. So
nothing of a file is lost without a word. docs/coming-from-fwknop.md has the list of all options.

Where fwknopd and we do not agree about a text (``fwknopd -D -a FILE`` shows its side):

===================================  ===========================  ====================================
text                                 fwknopd 2.6.10               here
===================================  ===========================  ====================================
an unknown option                    passed over, with a line     refused
a line of blanks, ``  #`` alone      refuses the file             passed over
``REQUIRE_SOURCE_ADDRESS true``      N                            refused
``FW_ACCESS_TIMEOUT x``              0, which is 30               refused
``OPEN_PORTS tcp/22 # ssh``          tcp/22                       the same, with a note
``KEY word # text``                  all of it is the key         the same
``KEY word ;``                       "word " (2.6.11: "word")     refused
a KEY of more than 32 bytes          never opens                  refused
``ACCESS_EXPIRE 02/31/2027``         3 March                      refused
``SOURCE 10.0.0.0/255.0.255.0``      that mask                    refused
===================================  ===========================  ====================================
"""

from knockgate.config.fwknop.profiles import profiles
from knockgate.config.fwknop.translate import Translation, translate

__all__ = ["Translation", "profiles", "translate"]
