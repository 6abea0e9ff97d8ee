# What the scripts about runtimes share: where the programs are, and how a runtime is started as root and as an ordinary user.
# Sourced with the directory of the built programs as first argument.

built=$(cd "${1:?the directory of the built programs, such as target/x86_64-unknown-linux-gnu/debug}" && pwd)
user=${SENTRY_TEST_USER:-sentry-test}
here=$(mktemp -d /tmp/sentry-oci-XXXXXX)
trap 'rm -rf "$here"' EXIT
chmod 755 "$here"
for program in oci-conformance oci-probe oci-breakouts oci-attacker; do
    [ ! -e "$built/$program" ] || install -m 755 "$built/$program" "$here/"
done
install -m 755 "$built/sentry" "$here/sentry-oci"

# As the ordinary user, with a plain environment. Who is one already, stays it.
user_words=
[ "$(id -u)" != 0 ] || user_words="setpriv --reuid=$user --regid=$user --clear-groups env -i HOME=/home/$user USER=$user \
    LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
# shellcheck disable=SC2086 # words
as_user() { $user_words "$@"; }

# crun 1.8 refuses the hybrid cgroups that runc takes: it gets a mount namespace with an empty tree of version 2 over them.
hybrid() { [ -d /sys/fs/cgroup/unified ]; }
with_version_2() {
    if hybrid && [ "$(id -u)" = 0 ]; then
        unshare --mount sh -c 'mount -t cgroup2 none /sys/fs/cgroup && exec "$@"' sh "$@"
    else
        "$@"
    fi
}
