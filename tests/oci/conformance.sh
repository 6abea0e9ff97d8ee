#!/bin/sh
# Runs the conformance suite on the sentry, runc and crun, as root (if it is started so) and as an ordinary user, and makes
# docs/conformance.md of what came of it.
#
#   tests/oci/conformance.sh DIRECTORY-OF-BUILT-PROGRAMS [PAGE]
set -eu
cd "$(dirname "$0")/../.."
. tests/oci/lib/runtimes.sh
page=${2:-docs/conformance.md}

# One column: NAME, USER, and how the suite is started.
files=
suite() {
    name=$1 who=$2
    shift 2
    file="$here/$name-$who.json"
    : > "$file" && chmod 666 "$file"
    echo "== $name, $who" >&2
    "$@" --json "$file" --quiet >&2 || true
    files="$files $file"
}
ours="$here/oci-conformance --runtime $here/sentry-oci --name sentry"
runc="$here/oci-conformance --runtime runc --name runc"
crun="$here/oci-conformance --runtime crun --name crun"
empty="its cgroups are an empty tree of version 2, mounted over the hybrid ones of this host, which crun refuses"
crun_as_root() { if hybrid; then with_version_2 $crun --without-cgroups "$empty" "$@"; else $crun "$@"; fi; }
crun_as_user() {
    if ! hybrid; then as_user $crun "$@"; return; fi
    if [ "$(id -u)" != 0 ]; then as_user $crun --without-cgroups "$empty" "$@"; return; fi
    # The namespace is made as root, and the user put into it.
    with_version_2 setpriv --reuid="$user" --regid="$user" --clear-groups env -i HOME="/home/$user" USER="$user" LANG=C.UTF-8 \
        PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin $crun --without-cgroups "$empty" "$@"
}
has() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ]; }

if [ "$(id -u)" = 0 ]; then
    suite sentry root $ours
    ! has runc || suite runc root $runc
    ! has crun || suite crun root crun_as_root
fi
suite sentry rootless as_user $ours
! has runc || suite runc rootless as_user $runc
! has crun || suite crun rootless crun_as_user

{
    cat <<'PAGE'
# Conformance

Does `sentry oci` do what the [OCI runtime specification](https://github.com/opencontainers/runtime-spec) asks? The suite has one
named test for each sentence of runtime.md, config.md, config-linux.md, runtime-linux.md and features.md that can be tried, and
runs against any runtime by its path:

```sh
oci-conformance --runtime sentry-oci           # as root, or as an ordinary user
oci-conformance --runtime /usr/sbin/runc --only seccomp
oci-conformance --list                         # each test, and the sentence that it stands for
```

A test makes a bundle with nothing but a static probe in it, lets the runtime create, start and delete the container, and
compares what the probe saw from inside with the configuration. The suite adopts the container as engines do, and learns its exit
code from the kernel. It was validated on runc and crun: what failed on both was looked up, and is kept only where the
specification says so clearly. Their versions are those that the distribution has; sentences that came with the releases 1.1 and 1.2
of the specification are counted apart, for both are older than these.

This page is made by `tests/oci/conformance.sh`; no number in it is typed.

PAGE
    # shellcheck disable=SC2086 # one word a file
    "$here/oci-conformance" table $files
} > "$page.new"
mv "$page.new" "$page"
