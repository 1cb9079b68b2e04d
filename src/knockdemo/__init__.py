"""knockdemo: the tutorial's lanes side by side, each guarding an identical service.

Lane A is our own daemon over nftables, lane B is knockd over iptables, lane C is fwknop; lane D, in the
lab alone, is a door of knockgate's, whose sequence the kernel follows.
"""
