"""knockd.conf, unchanged: run as it is (``load``), or turned into a gate.toml (``translate``).

::

    grammar      text -> sections with values that know their line
    reading      a section's values, errors with their line, notes on what is different here
    doors        a section -> Door
    load         the file -> Configuration
    rules        which port a firewall command opens for %IP%
    translate    the gate.toml that means the same, with comments

What becomes of a file where knockd and we do not agree (``knockd -D -c FILE`` shows its side):

===================================  ======================  ======================================
text                                 knockd 0.8              here
===================================  ======================  ======================================
a door without Sequence              refuses the file        refused
``Sequence =``, ``7000,``            a step at port 0        refused: nobody can knock there
``abc``, ``-5``, ``70x``, ``1 2``    port 0, 65531, 70, 1    refused
``70 # text``, ``Seq_Timeout = 5 s`` the number              the number, with a note
``7000:tcp:x``                       7000:tcp                refused
more than 32 steps, a port > 65535   refuses the file        refused
``TCPFlags = syn, ack``              refuses the file        accepted with a note
``TCPFlags =``, an unknown flag      refuses the file        refused
``UseSyslog = 1``                    refuses the file        accepted with a note
``UseSyslog`` in a door              accepted                accepted
an unknown key, or in a wrong place  refuses the file        refused
``[door] # text``                    refuses the file        refused
a repeated key                       the last counts         the last counts, with a note
doors of one name                    two doors               two doors, the second with a number
no door at all                       runs                    refused
Seq_Timeout 0 or less, or no number  never opens             refused
Cmd_Timeout below 0                  never closes            refused
Cmd_Timeout that is no number        0                       refused
Stop_Command without Start_Command   never run               left out, with a note
Target that is a name                never opens             refused
Target that is nothing like it       refuses the file        refused
One_Time_Sequences before Sequence   mixed up at first use   refused
Sequence before One_Time_Sequences   the file counts         the file counts, with a note
Interface = any                      deaf                    all interfaces, with a note
no Interface, no -i                  eth0                    eth0 where there is one, else all
LogFile, PidFile, UseSyslog          used                    not used, with a note
a zero byte, a line over 4094 bytes  cut there               refused
===================================  ======================  ======================================
"""

from knockgate.config.knockd.load import examine, load
from knockgate.config.knockd.translate import translate
from knockgate.config.notes import Note

__all__ = ["Note", "examine", "load", "translate"]
