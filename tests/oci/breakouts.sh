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
# A profile that sends a runtime's containers to an agent of ours.
profile() { # any|crun SOCKET FILE
    "$here/sentry" policy show default --as oci --runtime "$1" --listener "$2" > "$3"
    chmod 644 "$3"
}
agents=
agent() { # SOCKET, and how it is started
    socket=$1
    shift
    "$@" "$here/sentry" agent --socket "$socket" --audit /dev/null >/dev/null 2>&1 &
    agents="$agents $!"
    for _ in $(seq 50); do [ ! -S "$socket" ] || return 0; sleep 0.1; done
    echo "the agent does not listen at $socket" >&2
    return 1
}
# The agents end with this script, and so do those that setpriv has become.
# shellcheck disable=SC2064,SC2086 # the directory is known now, the agents later
trap "kill \$agents 2>/dev/null; rm -rf '$here'" EXIT
install -m 755 "$built/sentry" "$here/sentry"
has() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ]; }

if [ "$(id -u)" = 0 ]; then
    ! has runc || column runc root "$tries" --runtime runc --name runc
    column sentry root "$tries" --runtime "$here/sentry-oci" --name "sentry oci"
    if has runc; then
        mkdir -m 700 "$here/of-root"
        agent "$here/of-root/agent.sock"
        profile any "$here/of-root/agent.sock" "$here/runc-root-profile.json"
        column runc-agent root "$tries" --runtime runc --name "runc and sentry agent" --seccomp "$here/runc-root-profile.json"
    fi
fi
! has runc || column runc rootless as_user "$tries" --runtime runc --name runc
! has crun || column crun rootless crun_as_user
column sentry rootless as_user "$tries" --runtime "$here/sentry-oci" --name "sentry oci"
mkdir -m 700 "$here/of-user"
[ "$(id -u)" != 0 ] || chown "$user:" "$here/of-user"
# shellcheck disable=SC2086 # words; a function would leave a shell between us and the agent
agent "$here/of-user/agent.sock" $user_words
for runtime in runc crun; do
    has "$runtime" || continue
    case $runtime in runc) for=any ;; *) for=$runtime ;; esac
    profile "$for" "$here/of-user/agent.sock" "$here/$runtime-profile.json"
    case $runtime in
    runc) column runc-agent rootless as_user "$tries" --runtime runc --name "runc and sentry agent" --seccomp "$here/runc-profile.json" ;;
    crun) column crun-agent rootless crun_as_user --name "crun and sentry agent" --seccomp "$here/crun-profile.json" ;;
    esac
done

{
    cat <<'PAGE'
# Break-outs

Root in a container tries the classic ways out. Each attempt is one container with what `--privileged` gives: all capabilities
that its creator has, no seccomp profile but one that sends it to an agent, nothing masked or read-only, all devices; where an attempt needs more, the second
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
