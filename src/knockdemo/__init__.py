"""knockdemo: the tutorial's lanes side by side, each guarding an identical service.

Lane A is our own daemon over nftables, lane B is knockd over iptables, lane C is fwknop; in the lab
alone, D and F are doors of knockgate's: D's sequence the kernel follows, F's opens to fwknop's packet.
"""
