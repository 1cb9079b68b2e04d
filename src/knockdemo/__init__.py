"""knockdemo: the tutorial's lanes side by side, each guarding an identical service.

Lane A is our own daemon over nftables, lane B is knockd over iptables, lane C is fwknop.
"""
