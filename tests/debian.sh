#!/bin/sh
# A Debian system made and used by an ordinary user: debootstrap, apt, dpkg, useradd and su under --fake-root, in a tree on
# disk that a second run sees as the first one left it. Usage: debian.sh SENTRY [MIRROR]
#
# Started by root, everything runs as the ordinary user sentry-test, and the tree is held against one that root makes
# natively. Takes a network and a few minutes. Exits with 1 if anything is not as it should be.
set -eu

sentry=$1
mirror=${2:-http://deb.debian.org/debian}
as_user() { "$@"; }
if [ "$(id -u)" = 0 ]; then
    as_user() { setpriv --reuid=sentry-test --regid=sentry-test --clear-groups -- env -i HOME=/home/sentry-test "$@"; }
fi
home=$(as_user sh -c 'echo "$HOME"')
work=$(as_user mktemp -d "$home/debian-XXXXXX")
copy=$(mktemp -d)
cp "$sentry" "$copy/sentry"
chmod -R a+rX "$copy"
trap 'chmod -R u+rwx "$work" 2>/dev/null; rm -rf "$work" "$copy"' EXIT
cd "$work"

outside() { as_user env PATH=/usr/sbin:/usr/bin:/sbin:/bin timeout 1500 "$copy/sentry" run --quiet --fake-root --net all --write . -- "$@"; }
inside() { as_user env PATH=/usr/sbin:/usr/bin:/sbin:/bin timeout 1500 "$copy/sentry" run --quiet --fake-root --net all --root ./debian --write / -- "$@"; }
failed=0
# The name of a check, what should be said, and what was.
is() {
    if [ "$2" = "$3" ]; then echo "ok: $1"; else echo "NOT OK: $1: '$3' instead of '$2'"; failed=1; fi
}

began=$(date +%s)
outside debootstrap --variant=minbase bookworm debian "$mirror" >debootstrap.log 2>&1 || { tail -n 20 debootstrap.log; exit 1; }
echo "debootstrap took $(($(date +%s) - began)) s"
if [ "$(id -u)" = 0 ]; then
    debootstrap --variant=minbase bookworm "$copy/native" "$mirror" >/dev/null
    # These two are copies of the host's own, of which the sandbox has others.
    own='^\./etc/\(hostname\|resolv.conf\) '
    list='find . -xdev \( -path ./proc -o -path ./sys -o -path ./var/cache -o -path ./var/log \) -prune -o -printf "%p %y %m %U:%G\n"'
    (cd "$copy/native" && sh -c "$list") | grep -v "$own" | sort >"$copy/native.list"
    outside sh -c "cd debian && $list" | grep -v "$own" | sort >"$copy/ours.list"
    echo "$(wc -l <"$copy/native.list") names"
    is "the tree is the one that root makes" "" "$(diff "$copy/native.list" "$copy/ours.list" | head -n 20)"
fi
is "no set-id file is on disk" "" "$(find debian -perm /6000 -type f | head)"
is "no device is on disk" "" "$(find debian -type b -o -type c | head)"

began=$(date +%s)
inside sh -c 'apt-get update && apt-get install -y hello && hello' >apt.log 2>&1 || { tail -n 20 apt.log; exit 1; }
echo "apt-get update and install took $(($(date +%s) - began)) s"
is "apt installs" "Hello, world!" "$(tail -n 1 apt.log)"

inside sh -e -c 'useradd -m fred; install -o fred -g mail -m 2750 -d /srv/fred; mknod -m 600 /srv/disk b 8 0
    mkdir -p p/DEBIAN p/opt/tiny; echo text >p/opt/tiny/file
    printf "Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: tiny\n" >p/DEBIAN/control
    printf "#!/bin/sh\nchown nobody:nogroup /opt/tiny/file\nchmod 4755 /opt/tiny/file\n" >p/DEBIAN/postinst; chmod 755 p/DEBIAN/postinst
    dpkg-deb --build p tiny.deb; dpkg --install tiny.deb' >dpkg.log 2>&1 || { tail -n 20 dpkg.log; exit 1; }
is "a second run sees owners" "2750 fred:mail directory" "$(inside stat -c '%a %U:%G %F' /srv/fred)"
is "and devices" "600 root:root block special file 8:0" "$(inside stat -c '%a %U:%G %F %t:%T' /srv/disk)"
is "and what a package's script did" "4755 nobody:nogroup" "$(inside stat -c '%a %U:%G' /opt/tiny/file)"
is "su" "uid=65534(nobody) gid=65534(nogroup) groups=65534(nogroup)" "$(inside su nobody -s /bin/sh -c id)"
is "files of another user" "fred:fred" "$(inside su fred -s /bin/sh -c 'touch /home/fred/x; stat -c %U:%G /home/fred/x')"
is "an archive" "fred:mail 2750" "$(inside sh -e -c 'tar -C / -cpf a.tar srv/fred; mkdir -p x; tar -C x -xpf a.tar; stat -c "%U:%G %a" x/srv/fred')"
is "dpkg finds nothing amiss" "" "$(inside dpkg --verify)"
exit "$failed"
