"""What opens and what stays shut: one list for the kernel and for the firewall in memory.

A packet is written ``t7000`` (TCP SYN), ``u8000`` (UDP datagram) or ``a7000`` (a TCP ACK, which opens
no connection). ``!`` in front comes from another source.
"""

from __future__ import annotations

CONFIGURATION = """
[gate]
sources = 4096
hurried = 4096
leases = 4096

[doors.ssh]
ports = ["tcp/22"]
lease = "60s"
sequence = { steps = ["tcp/7000", "udp/8000", "tcp/9000"], within = "20s" }

[doors.web]
ports = ["tcp/443", "udp/443"]
lease = "1h"
sequence = { steps = ["tcp/7000", "tcp/7100"], within = "20s" }

[doors.low]
ports = ["tcp/101"]
sequence = { steps = ["tcp/7001", "tcp/7002", "tcp/7003"], within = "20s" }

[doors.high]
ports = ["tcp/102"]
sequence = { steps = ["tcp/7002", "tcp/7003", "tcp/7004"], within = "20s" }

[doors.twice]
ports = ["udp/103"]
sequence = { steps = ["udp/7300", "udp/7300", "tcp/7301"], within = "20s" }

[doors.back]
ports = ["tcp/104"]
sequence = { steps = ["tcp/7401", "tcp/7402", "tcp/7401", "tcp/7403"], within = "20s" }

[doors.one]
ports = ["tcp/105"]
sequence = { steps = ["udp/7600"], within = "20s" }

[doors.short]
ports = ["tcp/106"]
sequence = { steps = ["tcp/7701", "tcp/7702"], within = "20s" }

[doors.shadow]
ports = ["tcp/107"]
sequence = { steps = ["tcp/7702", "tcp/7702", "tcp/7703"], within = "20s" }

[doors.daemon]
ports = ["tcp/108"]
sequence = { steps = ["tcp/7800", "tcp/7801"], runs_in = "daemon" }

[doors.shut]
ports = ["tcp/109"]
"""

#: name -> (packets, doors that are open for their source afterwards)
CASES: dict[str, tuple[str, str]] = {
    "exactly": ("t7000 u8000 t9000", "ssh"),
    "the first doubled": ("t7000 t7000 u8000 t9000", "ssh"),
    "the second doubled": ("t7000 u8000 u8000 t9000", "ssh"),
    "the second three times": ("t7000 u8000 u8000 u8000 t9000", "ssh"),
    "the last doubled": ("t7000 u8000 t9000 t9000", "ssh"),
    "each doubled": ("t7000 t7000 u8000 u8000 t9000 t9000", "ssh"),
    "restarted mid-way": ("t7000 u8000 t7000 u8000 t9000", "ssh"),
    "a stray before": ("t5000 t7000 u8000 t9000", "ssh"),
    "a stray after": ("t7000 u8000 t9000 t5000", "ssh"),
    "an ACK in the middle resets nothing": ("t7000 a5000 u8000 a22 t9000", "ssh"),
    "an ACK to a knock port is no knock": ("t7000 u8000 a9000", ""),
    "another source's stray": ("t7000 !t5000 u8000 !t22 t9000", "ssh"),
    "both doors of a shared beginning": ("t7000 u8000 t9000 t7000 t7100", "ssh web"),
    "both, the other way round": ("t7000 t7100 t7000 u8000 t9000", "ssh web"),
    "the shorter alone": ("t7000 t7100", "web"),
    "overlapping sequences in one run": ("t7001 t7002 t7003 t7004", "low high"),
    "a step twice, as it should be": ("u7300 u7300 t7301", "twice"),
    "a step three times": ("u7300 u7300 u7300 t7301", "twice"),
    "its own beginning inside": ("t7401 t7402 t7401 t7403", "back"),
    "a false start of it": ("t7401 t7402 t7401 t7402 t7401 t7403", "back"),
    "a false start with a double": ("t7401 t7402 t7402 t7401 t7403", "back"),
    "a single knock": ("u7600", "one"),
    "a repeat that another door needs": ("t7701 t7702 t7702 t7703", "short shadow"),
    "nothing": ("", ""),
    "backwards": ("t9000 u8000 t7000", ""),
    "the last one missing": ("t7000 u8000", ""),
    "the first one missing": ("u8000 t9000", ""),
    "two swapped": ("t7000 t9000 u8000", ""),
    "the wrong protocol first": ("u7000 u8000 t9000", ""),
    "the wrong protocol in the middle": ("t7000 t8000 t9000", ""),
    "the wrong protocol last": ("t7000 u8000 u9000", ""),
    "a late repeat of the first": ("t7000 u8000 t7000 t9000", ""),
    "a stray to a closed port": ("t7000 t5000 u8000 t9000", ""),
    "a stray datagram": ("t7000 u5000 u8000 t9000", ""),
    "the door itself in between": ("t7000 u8000 t22 t9000", ""),
    "another door in between": ("t7000 t109 u8000 t9000", ""),
    "a knock of another door in between": ("t7000 t7001 u8000 t9000", ""),
    "a knock of the daemon's in between": ("t7000 t7800 u8000 t9000", ""),
    "interleaved doors": ("t7000 t7401 u8000 t7402 t9000", ""),
    "a step that should be twice, once": ("u7300 t7301", ""),
    "two sources share a sequence": ("t7000 !u8000 t9000", ""),
    "the daemon's sequence is not the kernel's": ("t7800 t7801", ""),
}
SWEEP = " ".join(f"t{port}" for port in range(6990, 9010))
