#!/bin/sh
# Shut the ports of lanes B and C, or (verb "remove") take the rules away again.
#
# Both address families: a rule for IPv4 alone would leave the service's IPv6 listener in plain sight.
# Running it again adds nothing; removing what is not there is no error.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH

verb=${1:-close}
families=iptables
# A kernel without IPv6 has neither the table nor anything listening there.
if [ -d /proc/sys/net/ipv6 ]; then
    families="iptables ip6tables"
fi

for family in $families; do
    for port in 6501 6502; do
        # -w: wait for the lock instead of failing when another program holds it.
        case $verb in
        close)
            "$family" -w -C INPUT -p tcp --dport "$port" -j DROP 2>/dev/null ||
                "$family" -w -A INPUT -p tcp --dport "$port" -j DROP
            ;;
        remove)
            while "$family" -w -C INPUT -p tcp --dport "$port" -j DROP 2>/dev/null; do
                "$family" -w -D INPUT -p tcp --dport "$port" -j DROP
            done
            ;;
        *)
            echo "usage: $0 [close | remove]" >&2
            exit 2
            ;;
        esac
    done
done
