"""How a throw-away machine boots, and what takes it away again: see ``machine``."""

#: Arguments: the mount point of the disk, what to do before the first process starts, folders to lend.
BOOT = r"""
set -eu
base=$1 prepare=$2; shift 2
root=$base/root
hostname machine
mount -t overlay overlay -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
for node in null zero full random urandom tty; do
    : >"$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s /proc/self/fd/0 "$root/dev/stdin"
ln -s /proc/self/fd/1 "$root/dev/stdout"
ln -s /proc/self/fd/2 "$root/dev/stderr"
for folder do # they may lie on other file systems than the root
    mkdir -p "$root$folder"
    mount --bind "$folder" "$root$folder"
    mount -o remount,ro,bind "$root$folder"
done
# This host's own services are none of ours: nothing is enabled, and what always starts but has no
# work here is masked. What a boot of before has left there is the machine's.
if [ ! -e "$base/booted" ]; then
    : >"$root/etc/fstab"
    find "$root/etc/systemd/system" -path '*.wants*' -delete
    find "$root"/etc/rc?.d -name 'S*' ! -name '*knockd' ! -name '*fwknop-server' -delete
    for unit in systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket \
        systemd-udev-trigger.service systemd-modules-load.service systemd-networkd.service \
        systemd-logind.service console-getty.service getty@tty1.service systemd-timesyncd.service \
        systemd-resolved.service networking.service; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit"
    done
    : >"$base/booted"
fi
chroot "$root" /bin/sh -euc "$prepare" </dev/null
cd "$root"
mkdir -p .old
pivot_root . .old
umount -l /.old
rmdir /.old
exec env -i container=lab "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
    /lib/systemd/systemd --system --unit=multi-user.target --log-target=journal --show-status=no
"""

#: Standard input ends when we do. Arguments: control group, mount point.
WATCHDOG = r"""
import pathlib, sys, time
sys.stdin.read()
group, base = map(pathlib.Path, sys.argv[1:])
if group.exists():
    (group / "cgroup.kill").write_text("1")
    while "populated 1" in (group / "cgroup.events").read_text():
        time.sleep(0.01)
    for path in sorted(group.rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir()
    group.rmdir()
base.rmdir()
"""
