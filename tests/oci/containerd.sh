#!/bin/sh
# A containerd of our own over a runtime: what ctr does with containers, as one named check each.
# Usage: containerd.sh RUNTIME [--rootless] [--cgroups host|v2] [--only "NAME NAME"]
#
# With --rootless, containerd runs in a user namespace of the ordinary user sentry-test (of whoever starts this, without root).
# The runtime is given as Debian's shim takes it: `ctr run --runc-binary` (the shim's BinaryName option), and in config.toml
# for Kubernetes (cri.sh). Nothing of a containerd that runs on this host is touched.
set -eu
. "$(dirname "$(realpath "$0")")/lib/engines.sh"
case " $* " in
*' --rootless '*) own_user_namespace "$@" ;;
*) [ "$(id -u)" = 0 ] || { echo 'containerd.sh: as an ordinary user only --rootless' >&2; exit 2; } ;;
esac
own_namespace "$@"

as_root=yes only='' cgroups='' rootless=no
runtime=$(realpath -s "$1")
shift
while [ $# -gt 0 ]; do
    case $1 in
    --cgroups) cgroups=$2 && shift ;;
    --rootless) rootless=yes ;;
    --only) only=$2 && shift ;;
    *) echo "containerd.sh: unknown option $1" >&2 && exit 2 ;;
    esac
    shift
done
kind=$(basename "$runtime")
if [ -z "$cgroups" ]; then
    cgroups=host
    [ "$kind" != crun ] || [ ! -d /sys/fs/cgroup/unified ] || cgroups=v2
fi
[ $rootless = yes ] || ordinary_host
own_place
# The shim's sockets have a fixed place.
[ $rootless = no ] || mount -t tmpfs run /run

cat >"$work/containerd.toml" <<EOF
version = 2
root = "$work/lib"
state = "$work/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt"]
[grpc]
  address = "$work/containerd.sock"
[debug]
  level = "info"
EOF
containerd --config "$work/containerd.toml" >"$work/containerd.log" 2>&1 &
daemon=$!
c() { timeout -k 5 60 ctr --address "$work/containerd.sock" --namespace sentry-trial "$@"; }
# Without a delegated cgroup none can be asked for.
run() { c run ${without_cgroup:+--cgroup=} --runc-binary "$runtime" --runtime io.containerd.runc.v2 "$@"; }
without_cgroup=${SENTRY_OWN_USER:-}
words="ctr --address $work/containerd.sock --namespace sentry-trial"

clear() {
    clear_tasks
    for container in $(c containers ls -q 2>/dev/null); do
        c containers delete "$container" >/dev/null 2>&1 || true
    done
}
trap end_daemon EXIT
trap 'exit 1' INT TERM HUP

busybox_root
until_ok c version || { tail "$work/containerd.log"; exit 1; }
# An archive as `docker save` writes it, made by hand: one layer, one name.
mkdir "$work/image"
layer=$(sha256sum <"$work/busybox.tar" | cut -d ' ' -f 1)
ln "$work/busybox.tar" "$work/image/layer.tar"
echo "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{\"Env\":[\"PATH=/bin\"],\"Cmd\":[\"sh\"]},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:$layer\"]}}" >"$work/image/config.json"
echo '[{"Config":"config.json","RepoTags":["localhost/box:latest"],"Layers":["layer.tar"]}]' >"$work/image/manifest.json"
tar -C "$work/image" -cf "$work/image.tar" manifest.json config.json layer.tar
c image import "$work/image.tar" >"$work/import.out" 2>&1 || { cat "$work/import.out"; exit 1; }
box=localhost/box:latest

# Starts a container in the background and waits until it runs.
background() {
    run --detach "$@"
    until_ok sh -c "$words tasks ls | grep -q '$name .*RUNNING'"
}
gone() {
    c tasks kill -s KILL "$name" >/dev/null 2>&1 || :
    until_ok sh -c "! $words tasks ls | grep -q '$name .*RUNNING'"
    c tasks delete "$name" >/dev/null 2>&1 || :
    c containers delete "$name"
}

delegated() { [ "$cgroups" = host ] && [ $rootless = no ] || skip 'no cgroup with controllers for this user'; }

check_run() { is hello "$(run --rm $box $name echo hello)"; }
check_exit_code() { exits 7 run --rm $box $name sh -c 'exit 7'; }
check_rootfs() { is hello "$(run --rm --env PATH=/bin --rootfs "$root" $name echo hello)"; }
check_missing_program() {
    code=0
    run --rm $box $name no-such-program >"$work/out" 2>&1 || code=$?
    is 1 $code
    like '*not found*' "$(cat "$work/out")"
}
check_stdin() { is 6 "$( (sleep 0.7; echo hello) | run --rm $box $name wc -c | tr -d ' ')"; }
check_tty() {
    terminal "$words run ${without_cgroup:+--cgroup=} --runc-binary $runtime --rm -t $box $name sh; echo code=\$?; sleep 60"
    sleep 0.5
    types 'test -t 0 && tty; stty size; echo $((6*7))' Enter
    shows '^/dev/'
    shows '^24 80'
    shows '^42'
    types 'exit 5' Enter
    shows '^code=5'
}
check_list() {
    background $box $name sleep 100
    like "*$name*RUNNING*" "$(c tasks ls)"
    like '*PID*' "$(c tasks ps $name)"
    gone
}
check_exec() {
    background $box $name sleep 100
    is hello "$(c tasks exec --exec-id e1 $name echo hello)"
    exits 9 c tasks exec --exec-id e2 $name sh -c 'exit 9'
    is 6 "$(echo hello | c tasks exec --exec-id e3 $name wc -c | tr -d ' ')"
    is '/tmp 1000' "$(c tasks exec --exec-id e4 --cwd /tmp --user 1000:1000 $name sh -c 'echo $(pwd) $(id -u)')"
    exits 1 c tasks exec --exec-id e5 $name no-such-program 2>"$work/out"
    gone
}
check_exec_tty() {
    background $box $name sleep 100
    terminal "$words tasks exec -t --exec-id t1 $name sh; echo code=\$?; sleep 60"
    sleep 0.5
    types 'test -t 1 && echo is-a-tty' Enter
    shows '^is-a-tty'
    types 'exit 4' Enter
    shows '^code=4'
    gone
}
check_kill() {
    background $box $name sh -c 'trap "exit 6" USR1; while :; do sleep 0.1; done'
    sleep 0.3
    c tasks kill -s SIGUSR1 $name
    until_ok sh -c "$words tasks ls | grep -q '$name .*STOPPED'"
    like '*exit code 6*' "$(c tasks delete $name 2>&1)"
    c containers delete $name
}
check_kill_all() {
    background $box $name sh -c 'sleep 876 & sleep 100'
    c tasks kill -a -s KILL $name
    until_ok sh -c "$words tasks ls | grep -q '$name .*STOPPED'"
    gone
}
check_pause() {
    delegated
    background $box $name sleep 100
    c tasks pause $name
    like "*$name*PAUSED*" "$(c tasks ls)"
    c tasks resume $name
    like "*$name*RUNNING*" "$(c tasks ls)"
    gone
}
check_metrics() {
    delegated
    background $box $name sleep 100
    like '*memory.usage_in_bytes*' "$(c tasks metrics $name)"
    gone
}
check_memory() {
    delegated
    background --memory-limit 33554432 $box $name sleep 100
    pid=$(c tasks ls | awk -v n="$name" '$1==n{print $2}')
    group=$(sed -n 's/^[0-9]*:memory://p' "/proc/$pid/cgroup")
    is 33554432 "$(cat "/sys/fs/cgroup/memory$group/memory.limit_in_bytes")"
    gone
}
check_mount() {
    mkdir -p "$home/vol"
    run --rm --mount "type=bind,src=$home/vol,dst=/vol,options=rbind:rw" $box $name sh -c 'echo in >/vol/file'
    is in "$(cat "$home/vol/file")"
    exits 1 run --rm --mount "type=bind,src=$home/vol,dst=/vol,options=rbind:ro" $box $name sh -c 'echo no >/vol/file'
}
check_read_only() { exits 1 run --rm --read-only $box $name sh -c 'echo x >/file'; }
check_env_cwd() { is 'a b /tmp' "$(run --rm --env 'X=a b' --cwd /tmp $box $name sh -c 'echo "$X" $(pwd)')"; }
check_cap_drop() { is 00000000aa0405fb "$(run --rm --cap-drop CAP_NET_RAW --cap-add CAP_SYS_TIME $box $name awk '/^CapEff/{print $2}' /proc/self/status)"; }
check_seccomp() { is 2 "$(run --rm --seccomp $box $name awk '/^Seccomp:/{print $2}' /proc/self/status)"; }
check_privileged() { is ok "$(run --rm --privileged $box $name echo ok)"; }
check_net_host() { is "$(readlink /proc/self/ns/net)" "$(run --rm --net-host $box $name readlink /proc/self/ns/net)"; }
check_pid_file() {
    background --pid-file "$work/pid-$name" $box $name sleep 100
    like 'sleep*' "$(tr '\0' ' ' <"/proc/$(cat "$work/pid-$name")/cmdline")"
    gone
}
check_events() {
    (timeout 6 $words events >"$work/events" 2>/dev/null) & watcher=$!
    sleep 0.3
    run --rm $box $name true
    sleep 0.5
    kill $watcher 2>/dev/null || :
    like '*/tasks/create*' "$(cat "$work/events")"
    like '*/tasks/exit*' "$(cat "$work/events")"
}
check_restarted_daemon() {
    background $box $name sleep 100
    kill "$daemon"
    wait "$daemon" 2>/dev/null || :
    containerd --config "$work/containerd.toml" >>"$work/containerd.log" 2>&1 &
    echo $! >"$work/daemon"
    until_ok c version
    like "*$name*RUNNING*" "$(c tasks ls)"
    is back "$(c tasks exec --exec-id e1 $name echo back)"
    gone
}
check_ten_at_once() {
    pids=''
    for n in 1 2 3 4 5 6 7 8 9 10; do
        (exits "$n" run --rm $box $name-$n sh -c "sleep 0.5; exit $n") & pids="$pids $!"
    done
    for each in $pids; do wait "$each"; done
}
check_nothing_left() {
    is '' "$(c tasks ls -q)"
    is '' "$(c containers ls -q)"
}

for each in $(sed -n 's/^check_\([a-z0-9_]*\)() .*/\1/p' "$self"); do
    failures_before=$failed
    check "$each"
    [ $failed = $failures_before ] || clear
    [ ! -e "$work/daemon" ] || daemon=$(cat "$work/daemon")
done
summary
