#!/bin/sh
# A dockerd of our own with a runtime added: what people do with docker, as one named check each. Needs root.
# Usage: docker.sh RUNTIME [--only "NAME NAME"]
#
# The daemon gets the daemon.json of docs/containerd.md, and neither bridge nor packet filter: a host may lack both. Nothing of
# a dockerd that runs on this host is touched.
set -eu
. "$(dirname "$(realpath "$0")")/lib/engines.sh"
[ "$(id -u)" = 0 ] || { echo 'docker.sh: dockerd needs root' >&2; exit 2; }
own_namespace "$@"

as_root=yes only='' cgroups=host
runtime=$(realpath -s "$1")
shift
while [ $# -gt 0 ]; do
    case $1 in
    --only) only=$2 && shift ;;
    *) echo "docker.sh: unknown option $1" >&2 && exit 2 ;;
    esac
    shift
done
kind=$(basename "$runtime")
ordinary_host
own_place

cat >"$work/daemon.json" <<EOF
{
  "runtimes": { "under-trial": { "path": "$runtime" } },
  "default-runtime": "under-trial",
  "data-root": "$work/lib", "exec-root": "$work/x", "pidfile": "$work/dockerd.pid",
  "hosts": ["unix://$work/docker.sock"],
  "bridge": "none", "iptables": false, "ip6tables": false, "ip-forward": false, "ip-masq": false,
  "storage-driver": "vfs"
}
EOF
dockerd --config-file "$work/daemon.json" >"$work/dockerd.log" 2>&1 &
daemon=$!
d() { timeout -k 5 60 /usr/bin/docker --host "unix://$work/docker.sock" "$@"; }
words="/usr/bin/docker --host unix://$work/docker.sock"

clear() {
    for container in $(d ps -aq 2>/dev/null); do
        d rm -f "$container" >/dev/null 2>&1 || true
    done
}
trap end_daemon EXIT
trap 'exit 1' INT TERM HUP

busybox_root
until_ok d info || { tail -n 20 "$work/dockerd.log"; exit 1; }
d import "$work/busybox.tar" box >/dev/null

check_runtime() { like '*under-trial*' "$(d info --format '{{.DefaultRuntime}}')"; }
check_run() { is hello "$(d run --rm box echo hello)"; }
check_exit_code() { exits 7 d run --rm box sh -c 'exit 7'; }
check_missing_program() { exits 127 d run --rm box no-such-program; }
check_not_executable() { exits 126 d run --rm box /bin/not-executable; }
check_stdin() { is 6 "$(echo hello | d run --rm -i box wc -c | tr -d ' ')"; }
check_run_tty() {
    terminal "$words run --rm -it box sh; echo code=\$?; sleep 60"
    sleep 0.5
    types 'test -t 0 && tty; stty size; echo $((6*7))' Enter
    shows '^/dev/'
    shows '^24 80'
    shows '^42'
    types 'exit 5' Enter
    shows '^code=5'
}
check_exec() {
    d run -d --name $name box sleep 100
    is 'fred /tmp x' "$(d exec --user fred --workdir /tmp --env A=x $name sh -c 'echo $(id -un) $(pwd) $A')"
    exits 9 d exec $name sh -c 'exit 9'
    exits 127 d exec $name no-such-program 2>/dev/null || exits 126 d exec $name no-such-program
    is 6 "$(echo hello | d exec -i $name wc -c | tr -d ' ')"
    d rm -f $name
}
check_exec_tty() {
    d run -d --name $name box sleep 100
    terminal "$words exec -it $name sh; echo code=\$?; sleep 60"
    sleep 0.5
    types 'test -t 1 && echo is-a-tty' Enter
    shows '^is-a-tty'
    types 'exit 4' Enter
    shows '^code=4'
    d rm -f $name
}
check_logs() {
    d run --name $name box sh -c 'echo to-out; echo to-err >&2' >/dev/null 2>&1
    is "to-err to-out " "$(d logs $name 2>&1 | sort | tr '\n' ' ')"
    d rm $name
}
check_stop() {
    d run -d --name $name box sh -c 'trap "exit 3" TERM; while :; do sleep 0.1; done'
    sleep 0.4
    d stop -t 5 $name
    is 3 "$(d inspect -f '{{.State.ExitCode}}' $name)"
    d start $name
    is running "$(d inspect -f '{{.State.Status}}' $name)"
    d rm -f $name
}
check_kill() {
    d run -d --name $name box sleep 100
    d kill $name
    is 137 "$(d wait $name)"
    d rm $name
}
check_pause() {
    d run -d --name $name box sleep 100
    d pause $name
    is paused "$(d inspect -f '{{.State.Status}}' $name)"
    d unpause $name
    is 1 "$(d exec $name echo 1)"
    d rm -f $name
}
check_top() {
    d run -d --name $name box sleep 100
    like '*sleep*' "$(d top $name)"
    d rm -f $name
}
check_stats() {
    d run -d --name $name box sleep 100
    like "*$name*" "$(d stats --no-stream --format '{{.Name}} {{.MemUsage}}' $name)"
    d rm -f $name
}
check_update() {
    d run -d --name $name --memory 64m --memory-swap 64m box sleep 100
    d update --memory 32m --memory-swap 32m $name
    is 33554432 "$(d exec $name cat /sys/fs/cgroup/memory/memory.limit_in_bytes)"
    d rm -f $name
}
check_memory() { exits 137 d run --rm --memory 16m --memory-swap 16m box sh -c 'x=a; while :; do x=$x$x$x; done'; }
check_pids_limit() { like '*an*t fork*' "$(d run --rm --pids-limit 5 box sh -c 'for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait' 2>&1)"; }
check_volume() {
    mkdir -p "$home/vol"
    d run --rm -v "$home/vol:/vol" box sh -c 'echo in >/vol/file'
    is in "$(cat "$home/vol/file")"
    exits 1 d run --rm -v "$home/vol:/vol:ro" box sh -c 'echo no >/vol/file'
    d volume create named >/dev/null
    d run --rm -v named:/data box sh -c 'echo kept >/data/file'
    is kept "$(d run --rm -v named:/data box cat /data/file)"
}
check_tmpfs() { is 'tmpfs 65536' "$(d run --rm --tmpfs /scratch:size=64m box sh -c 'df -k /scratch | awk "NR==2{print \$1, \$2}"')"; }
check_read_only() { exits 1 d run --rm --read-only box sh -c 'echo x >/file'; }
check_user() { is 'uid=1000(fred) gid=1000(fred) groups=8(mail),1000(fred)' "$(d run --rm --user fred box id)"; }
check_cap_drop() { is 0000000000000000 "$(d run --rm --cap-drop all box awk '/^CapEff/{print $2}' /proc/self/status)"; }
check_no_new_privileges() { is 1 "$(d run --rm --security-opt no-new-privileges box awk '/^NoNewPrivs/{print $2}' /proc/self/status)"; }
check_seccomp() { is 2 "$(d run --rm box awk '/^Seccomp:/{print $2}' /proc/self/status)"; }
check_unconfined() { is ok "$(d run --rm --security-opt seccomp=unconfined box echo ok)"; }
check_privileged() { is ok "$(d run --rm --privileged box echo ok)"; }
check_init() { like '*init*' "$(d run --rm --init box cat /proc/1/cmdline 2>&1 | tr '\0' ' ')" || skip 'no docker-init'; }
check_hostname() { is lighthouse "$(d run --rm --hostname lighthouse box hostname)"; }
check_net_host() { is "$(readlink /proc/self/ns/net)" "$(d run --rm --network host box readlink /proc/self/ns/net)"; }
check_pid_container() {
    d run -d --name $name box sleep 987
    like '*sleep 987*' "$(d run --rm --pid=container:$name box ps)"
    d rm -f $name
}
check_ulimit() { is 77 "$(d run --rm --ulimit nofile=77:77 box sh -c 'ulimit -n')"; }
check_shm_size() { is 32768 "$(d run --rm --shm-size 32m box df -k /dev/shm | awk 'NR==2{print $2}')"; }
check_sysctl() { is 111 "$(d run --rm --sysctl kernel.msgmni=111 box cat /proc/sys/kernel/msgmni)"; }
check_device() { d run --rm --device /dev/zero:/dev/nought box test -c /dev/nought; }
check_cp() {
    echo cargo >"$home/cargo"
    d run -d --name $name box sleep 100
    d cp "$home/cargo" $name:/tmp/cargo
    is cargo "$(d exec $name cat /tmp/cargo)"
    d rm -f $name
}
check_healthcheck() {
    d run -d --name $name --health-cmd 'test -e /tmp/fine' --health-interval 1s box sh -c 'touch /tmp/fine; sleep 100'
    healthy() { [ "$(d inspect -f '{{.State.Health.Status}}' $name)" = healthy ]; }
    until_ok healthy
    d rm -f $name
}
check_restart() {
    d run -d --name $name --restart on-failure:2 box sh -c 'exit 1'
    restarted() { [ "$(d inspect -f '{{.RestartCount}}' $name)" = 2 ]; }
    until_ok restarted
    d rm -f $name
}
check_build() {
    mkdir -p "$home/build"
    printf 'FROM box\nRUN mkdir /made && echo result >/made/file\nCMD ["cat", "/made/file"]\n' >"$home/build/Dockerfile"
    DOCKER_BUILDKIT=0 d build --network none -t built "$home/build" >"$work/out" 2>&1 || { cat "$work/out"; return 1; }
    is result "$(d run --rm built)"
}

for each in $(sed -n 's/^check_\([a-z0-9_]*\)() .*/\1/p' "$self"); do
    failures_before=$failed
    check "$each"
    [ $failed = $failures_before ] || clear
done
summary
