#!/bin/sh
# Lets root in a container try the classic ways out, under runc, crun and the sentry, and makes docs/breakouts.md of what came of
# it. Nothing that is tried can harm this machine: clocks are set to the present, modules do not exist, files are sacrificial.
#
#   tests/oci/breakouts.sh DIRECTORY-OF-BUILT-PROGRAMS [PAGE]
set -eu
cd "$(dirname "$0")/../.."
. tests/oci/lib/runtimes.sh
page=${2:-docs/breakouts.md}

# One column: NAME, USER, and how the attempts are started.
files=
column() {
    name=$1 who=$2
    shift 2
    file="$here/$name-$who.json"
    : > "$file" && chmod 666 "$file"
    echo "== $name, $who" >&2
    "$@" --json "$file" >&2 || true
    files="$files $file"
}
tries="$here/oci-breakouts"
crun_as_user() {
    if hybrid && [ "$(id -u)" = 0 ]; then
        with_version_2 setpriv --reuid="$user" --regid="$user" --clear-groups env -i HOME="/home/$user" USER="$user" LANG=C.UTF-8 \
            PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin "$tries" --runtime crun --name crun "$@"
    else
        as_user "$tries" --runtime crun --name crun "$@"
    fi
}
has() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ]; }

if [ "$(id -u)" = 0 ]; then
    ! has runc || column runc root "$tries" --runtime runc --name runc
    column sentry root "$tries" --runtime "$here/sentry-oci" --name "sentry oci"
fi
! has runc || column runc rootless as_user "$tries" --runtime runc --name runc
! has crun || column crun rootless crun_as_user
column sentry rootless as_user "$tries" --runtime "$here/sentry-oci" --name "sentry oci"

{
    cat <<'PAGE'
# Break-outs

Root in a container tries the classic ways out. Each attempt is one container with what `--privileged` gives: all capabilities
that its creator has, no seccomp profile, nothing masked or read-only, all devices; where an attempt needs more, the second
column says so. A rootless container has a user namespace with one id, a container of root has none.

- *host reached*: an effect was seen on the host, or a secret of the host's inside.
- *call allowed*: a call that reaches deep into the kernel took effect, or would have with other arguments.
- *in the container only*: it succeeded, and nothing of it was seen outside.
- *refused*: the errno, and the step that failed.

What could do harm is tried in a form that cannot. The clock is set to the moment that it shows, and a timer of the kernel's tells
outside whether it was set. A read-only bind holds a sacrificial file; in /bin a new file is made and removed. The disk is mounted
once more and read. The setting that is written is `kernel.printk_delay`, which is put back. `core_pattern`, `release_agent` and a
setting of sysfs are opened for writing and not written. Modules and swap files that are named do not exist, flags of kexec are
invalid: the errno tells whether the call was permitted (ENOENT, EBADF, EINVAL) or not. The runtime's binary that is attacked is a copy.

This page is made by `tests/oci/breakouts.sh`.

PAGE
    # shellcheck disable=SC2086 # one word a file
    "$tries" table $files
} > "$page.new"
mv "$page.new" "$page"
