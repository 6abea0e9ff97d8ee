# What the trials of container engines share: who runs, on which host, over which root file system, and how a check is
# counted. Sourced by podman.sh, containerd.sh and docker.sh; needs `runtime` (a path) and `as_root` (yes or no).
#
# A check is a function `check_NAME`. Its lines are assertions: the first that fails ends it as FAIL, `skip REASON` ends
# it as SKIP. Nothing here is about one runtime only, so that a check can be validated on runc and crun.

user=sentry-test
self=$(realpath "$0")
passed=0 failed=0 skipped=0
failures=

# The ordinary user's commands, or root's; with nothing inherited.
as_subject() {
    if [ "$as_root" = yes ] || [ "$(id -u)" != 0 ]; then
        env -i HOME="$home" USER="$(id -un)" $plain "$@"
    else
        setpriv --reuid=$user --regid=$user --clear-groups -- env -i HOME="$home" USER=$user $plain "$@"
    fi
}
plain="LANG=C.UTF-8 TERM=xterm PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"

# As root the trials have a mount namespace of their own: the script starts itself again in one.
own_namespace() {
    if [ "$(id -u)" = 0 ] && [ -z "${SENTRY_OWN_HOST:-}" ]; then
        SENTRY_OWN_HOST=yes exec unshare --mount --propagation private -- "$0" "$@"
    fi
}

# The ordinary user as root of a user namespace with all its ids: the script starts itself again in one.
own_user_namespace() {
    [ -z "${SENTRY_OWN_USER:-}" ] || return 0
    if [ "$(id -u)" = 0 ]; then
        # The script and the runtime may lie in private directories.
        copy=$(mktemp -d)
        cp -r "$(dirname "$(realpath "$0")")" "$copy/trials"
        install -m 755 "$(readlink -f "$1")" "$copy/$(basename "$1")"
        chmod -R a+rX "$copy"
        program=$copy/trials/$(basename "$0")
        runtime=$copy/$(basename "$1")
        shift
        code=0
        SENTRY_OWN_USER=yes setpriv --reuid=$user --regid=$user --clear-groups -- \
            unshare --user --map-root-user --map-auto --mount -- "$program" "$runtime" "$@" || code=$?
        rm -rf "$copy"
        exit $code
    fi
    SENTRY_OWN_USER=yes exec unshare --user --map-root-user --map-auto --mount -- "$0" "$@"
}

# In it, this host is what an ordinary distribution is: /dev/net/tun open to everybody, mounts shared. `cgroups` says which
# hierarchy programs see: the host's, or v2 for crun, which refuses a hybrid one.
ordinary_host() {
    [ -n "${SENTRY_OWN_HOST:-}" ] || return 0
    mount --make-rshared /
    if [ -e /dev/net/tun ]; then
        mount -t tmpfs -o mode=755 tun /dev/net
        mknod -m 666 /dev/net/tun c 10 200
    fi
    if [ "$cgroups" = v2 ]; then
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
    fi
}

# Directories of these trials alone, below a place with room; removed at the end.
own_place() {
    work=$(mktemp -d "${SENTRY_ENGINES_DIR:-/var/tmp}/engines-XXXXXX")
    home=$work/home
    runtime_dir=$work/run
    mkdir -m 755 "$home"
    mkdir -m 700 "$runtime_dir"
    mkdir "$work/bin"
    # The binary may lie in a private directory; engines go by its name.
    if [ "$as_root" = no ] && [ "$(id -u)" = 0 ]; then
        case $runtime in
        /usr/*) ;;
        *)
            install -m 755 "$(readlink -f "$runtime")" "$work/bin/$(basename "$runtime")"
            runtime=$work/bin/$(basename "$runtime")
            ;;
        esac
        chown $user: "$work" "$home" "$runtime_dir"
    fi
    chmod 755 "$work"
    # A monitor may leave files where it was started.
    cd "$work"
}

# Ends what runs on for these trials (the process that keeps podman's user namespace, a conmon that lost its container):
# whoever has their directory in its environment.
end_place() {
    for environment in $(grep -lsaF "$work/" /proc/[0-9]*/environ); do
        pid=${environment#/proc/}
        pid=${pid%/environ}
        [ "$pid" = $$ ] || kill "$pid" 2>/dev/null || true
    done
    for _ in 1 2 3 4 5; do
        rm -rf "$work" 2>/dev/null && return
        sleep 0.3
        chmod -R u+rwX "$work" 2>/dev/null || true
    done
    echo "cannot remove $work" >&2
}

# The same where a daemon of our own, $daemon, has the containers: `clear` ends those, then it, then what it mounted.
end_daemon() {
    clear
    kill "$daemon" 2>/dev/null || true
    wait "$daemon" 2>/dev/null || true
    tmux -S "$runtime_dir/tmux" kill-server >/dev/null 2>&1 || true
    grep " $work/" /proc/self/mounts | cut -d ' ' -f 2 | sort -r | xargs -r umount -l || true
    end_place
}

# Ends the containers of containerd, which is spoken to by the function c.
clear_tasks() {
    for task in $(c tasks ls -q 2>/dev/null); do
        c tasks kill -s KILL "$task" >/dev/null 2>&1 || true
        c tasks delete -f "$task" >/dev/null 2>&1 || true
    done
}

# The whole of a system: one static program and the files that engines look for. Becomes $work/busybox and a tar of it.
busybox_root() {
    root=$work/busybox
    mkdir -p "$root/bin" "$root/etc" "$root/tmp" "$root/proc" "$root/sys" "$root/dev" "$root/root" "$root/home" "$root/var"
    chmod 1777 "$root/tmp"
    cp "$(command -v busybox)" "$root/bin/busybox"
    for applet in $(busybox --list); do
        [ -e "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\nfred:x:1000:1000:fred:/home:/bin/sh\n' >"$root/etc/passwd"
    printf 'root:x:0:\nfred:x:1000:\nmail:x:8:fred\n' >"$root/etc/group"
    echo 'not a program' >"$root/bin/not-executable"
    chmod 644 "$root/bin/not-executable"
    tar -C "$root" --owner=0 --group=0 -cf "$work/busybox.tar" .
    if [ "$as_root" = no ] && [ "$(id -u)" = 0 ]; then
        chown -R $user: "$root" "$work/busybox.tar"
    fi
}

skip() {
    echo "skipped: $*"
    exit 77
}

# What should be, and what is.
is() {
    [ "$1" = "$2" ] && return 0
    echo "'$2' instead of '$1'"
    return 1
}

# A pattern of the shell, and what is.
like() {
    # shellcheck disable=SC2254 # a pattern on purpose
    case $2 in
    $1) return 0 ;;
    esac
    echo "'$2' is not like '$1'"
    return 1
}

# The exit code that a command should have.
exits() {
    local want=$1 code=0
    shift
    "$@" || code=$?
    [ "$code" = "$want" ] && return 0
    echo "exit code $code instead of $want: $*"
    return 1
}

# Until a command succeeds, ten seconds at most.
until_ok() {
    local tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 50 ] || { echo "not within ten seconds: $*"; return 1; }
        sleep 0.2
    done
}

# A terminal of its own: 80 by 24, one session a check.
terminal() {
    as_subject tmux -f /dev/null -S "$runtime_dir/tmux" new-session -d -x 80 -y 24 -s "$name" "$1"
}
types() {
    as_subject tmux -S "$runtime_dir/tmux" send-keys -t "$name" "$@"
}
screen() {
    as_subject tmux -S "$runtime_dir/tmux" capture-pane -p -t "$name" | grep -q -- "$1"
}
shows() {
    until_ok screen "$1" || { as_subject tmux -S "$runtime_dir/tmux" capture-pane -p -t "$name" | grep .; return 1; }
}

# Runs one check and counts it. A hanging engine is a failure: each call of one has a time limit.
check() {
    name=$1
    case " $only " in
    "  " | *" $name "*) ;;
    *) return 0 ;;
    esac
    local began said code
    began=$(date +%s%N)
    set +e
    said=$(set -e; "check_$name" 2>&1)
    code=$?
    set -e
    local took=$((($(date +%s%N) - began) / 1000000))
    case $code in
    0) passed=$((passed + 1)); printf 'PASS  %-22s %5d ms\n' "$name" $took ;;
    77) skipped=$((skipped + 1)); printf 'SKIP  %-22s %s\n' "$name" "$(echo "$said" | tail -n 1)" ;;
    *)
        failed=$((failed + 1)) failures="$failures $name"
        printf 'FAIL  %-22s %5d ms\n' "$name" $took
        echo "$said" | tail -n 12 | cut -c 1-400 | sed 's/^/      | /'
        ;;
    esac
}

summary() {
    echo "$(basename "$runtime"): $passed passed, $failed failed, $skipped skipped${failures:+; failed:$failures}"
    [ $failed = 0 ]
}
