#!/bin/sh
# Podman, conmon and buildah over a runtime: each thing that people do with containers, as one named check.
# Usage: podman.sh RUNTIME [--as-root] [--cgroups host|v2] [--long] [--only "NAME NAME"]
#
# RUNTIME is any OCI runtime's path: the checks were validated on runc and crun. Started by root without --as-root,
# everything runs as the ordinary user sentry-test. Exits with 1 if a check fails; what this host lacks is skipped aloud.
set -eu
. "$(dirname "$(realpath "$0")")/lib/engines.sh"
own_namespace "$@"

as_root=no only='' cgroups='' long=no
runtime=$(realpath -s "$1")
shift
while [ $# -gt 0 ]; do
    case $1 in
    --as-root) as_root=yes ;;
    --cgroups) cgroups=$2 && shift ;;
    --only) only=$2 && shift ;;
    --long) long=yes ;;
    *) echo "podman.sh: unknown option $1" >&2 && exit 2 ;;
    esac
    shift
done
kind=$(basename "$runtime")
if [ -z "$cgroups" ]; then
    cgroups=host
    [ "$kind" != crun ] || [ ! -d /sys/fs/cgroup/unified ] || cgroups=v2
fi
ordinary_host
own_place

# The two lists are those of deploy/containers.conf. Limits that this root may not raise are not asked for.
cat >"$work/containers.conf" <<EOF
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime_supports_json = ["crun", "runc", "sentry-oci"]
runtime_supports_nocgroup = ["crun", "sentry-oci"]
[containers]
netns = "none"
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
$([ $cgroups = host ] || echo 'pids_limit = 0')
$([ $cgroups = host ] || [ $as_root = no ] || echo 'cgroups = "disabled"')
EOF
podman_env="CONTAINERS_CONF=$work/containers.conf XDG_RUNTIME_DIR=$runtime_dir TMPDIR=$home"
places="--root $home/storage --runroot $runtime_dir/containers --tmpdir $runtime_dir/libpod"
patience=60
long() {
    patience=900
    "$@"
}
p() { as_subject $podman_env timeout -k 5 $patience podman $places --runtime "$runtime" "$@"; }
# The same words for a terminal's command line.
words="env $podman_env podman $places --runtime $runtime"

end() {
    p rm --all --force --time 0 >/dev/null 2>&1 || true
    p pod rm --all --force >/dev/null 2>&1 || true
    as_subject tmux -S "$runtime_dir/tmux" kill-server >/dev/null 2>&1 || true
    as_subject $podman_env podman unshare rm -rf "$home/storage" "$home/storage2" >/dev/null 2>&1 || true
    end_place
}
trap end EXIT
trap 'exit 1' INT TERM HUP

busybox_root
p import "$work/busybox.tar" box >/dev/null 2>"$work/import.err" || { cat "$work/import.err"; exit 1; }

# --- A program comes and goes.
check_run() { is hello "$(p run --rm box echo hello)"; }
check_exit_code() { exits 7 p run --rm box sh -c 'exit 7'; }
check_signal_code() { exits 137 p run --rm box sh -c 'kill -9 $$' || exits 143 p run --rm --init box sh -c 'kill -15 $$'; }
check_missing_program() { exits 127 p run --rm box /bin/no-such-program; }
check_missing_in_path() { exits 127 p run --rm box no-such-program; }
check_not_executable() { exits 126 p run --rm box /bin/not-executable; }
check_entrypoint() { is 'one two' "$(p run --rm --entrypoint '["echo","one"]' box two)"; }
check_stdin() { is 6 "$(echo hello | p run --rm -i box wc -c | tr -d ' ')"; }
check_stderr() { is err "$(p run --rm box sh -c 'echo out; echo err >&2' 2>&1 >/dev/null)"; }
check_much_output() { is 3000000 "$(p run --rm box sh -c 'head -c 3000000 /dev/zero' | wc -c)"; }
check_rootfs() { is box "$(p run --rm --rootfs "$work/busybox" sh -c 'echo box')"; }
check_two_runs_at_once() {
    (p run --rm box sleep 1) & (p run --rm box sleep 1) &
    wait %1 && wait %2
}
check_rm_flag() {
    p run --rm --name gone box true
    exits 1 p container exists gone
}

# --- A terminal.
check_run_tty() {
    terminal "$words run --rm -it box sh; echo code=\$?; sleep 60"
    types 'test -t 0 && tty; stty size; echo $((6*7))' Enter
    shows '^/dev/'
    shows '^24 80'
    shows '^42'
    types C-c
    types 'exit 5' Enter
    shows '^code=5'
}
check_exec_tty() {
    p run -d --name exectty box sleep 100
    terminal "$words exec -it exectty sh; echo code=\$?; sleep 60"
    types 'test -t 1 && echo is-a-tty' Enter
    shows '^is-a-tty'
    types 'exit 4' Enter
    shows '^code=4'
    p rm -ft0 exectty
}
check_attach() {
    p run -dit --name attached box sh
    terminal "$words attach attached; echo code=\$?; sleep 60"
    sleep 0.5
    types 'echo $((5*5))' Enter
    shows '^25'
    types C-p
    sleep 0.3
    types C-q
    shows '^code=0'
    is true "$(p inspect -f '{{.State.Running}}' attached)"
    p rm -ft0 attached
}
check_resize() {
    terminal "$words run --rm -it box sh; sleep 60"
    types 'stty size' Enter
    shows '^24 80'
    as_subject tmux -S "$runtime_dir/tmux" resize-window -t "$name" -x 100 -y 30
    sleep 0.5
    types 'stty size' Enter
    shows '^30 100'
    types 'exit' Enter
}

# --- A container in the background.
check_detached() {
    p run -d --name back box sh -c 'echo ready; sleep 100'
    is running "$(p inspect -f '{{.State.Status}}' back)"
    like '*back*' "$(p ps --format '{{.Names}}')"
    p rm -ft0 back
}
check_logs() {
    p run -d --name talks box sh -c 'echo to-out; echo to-err >&2'
    p wait talks >/dev/null
    is "to-err to-out " "$(p logs talks 2>&1 | sort | tr '\n' ' ')"
    p rm talks
}
check_exec() {
    p run -d --name ex box sleep 100
    is 'fred /tmp x' "$(p exec --user fred --workdir /tmp --env A=x ex sh -c 'echo $(id -un) $(pwd) $A')"
    exits 9 p exec ex sh -c 'exit 9'
    exits 127 p exec ex no-such-program
    exits 126 p exec ex /bin/not-executable
    is 6 "$(echo hello | p exec -i ex wc -c | tr -d ' ')"
    p exec -d ex sh -c 'echo left >/tmp/left'
    until_ok p exec ex test -e /tmp/left
    p rm -ft0 ex
}
check_exec_many() {
    p run -d --name exm box sleep 100
    local pids='' n
    for n in 1 2 3 4 5 6; do
        (p exec exm sh -c "echo $n; sleep 0.3; exit $n" >/dev/null) & pids="$pids $!"
    done
    local sum=0 code
    for n in $pids; do
        code=0
        wait "$n" || code=$?
        sum=$((sum + code))
    done
    is 21 $sum
    p rm -ft0 exm
}
check_stop() {
    p run -d --name stops box sh -c 'trap "exit 3" TERM; echo ready; while :; do sleep 0.1; done'
    sleep 0.3
    p stop -t 5 stops
    is 3 "$(p inspect -f '{{.State.ExitCode}}' stops)"
    p start stops
    is running "$(p inspect -f '{{.State.Status}}' stops)"
    p rm -ft0 stops
}
check_stop_deaf() {
    p run -d --name deaf box sleep 100
    p stop -t 1 deaf
    is 137 "$(p inspect -f '{{.State.ExitCode}}' deaf)"
    p rm deaf
}
check_kill() {
    p run -d --name killed box sh -c 'trap "exit 6" USR1; while :; do sleep 0.1; done'
    sleep 0.3
    p kill --signal USR1 killed
    is 6 "$(p wait killed)"
    p rm killed
}
check_pause() {
    [ "$as_root" = yes ] && [ "$cgroups" = host ] || skip 'no delegated cgroup: podman itself refuses to pause'
    p run -d --name paused box sleep 100
    p pause paused
    is paused "$(p inspect -f '{{.State.Status}}' paused)"
    p unpause paused
    is running "$(p inspect -f '{{.State.Status}}' paused)"
    is 1 "$(p exec paused echo 1)"
    p rm -ft0 paused
}
check_top() {
    p run -d --name tops box sleep 100
    like '*sleep*' "$(p top tops)"
    like '*sleep*' "$(p top tops pid args)"
    p rm -ft0 tops
}
check_rm() {
    p run -d --name rms box sleep 100
    exits 2 p rm rms
    p rm -f -t 0 rms
    exits 1 p container exists rms
}
check_create_start() {
    p create --name made box sh -c 'echo started'
    is created "$(p inspect -f '{{.State.Status}}' made)"
    is started "$(p start -a made)"
    is started "$(p start -a made)"
    p rm made
}
check_init_then_start() {
    p create --name inited box sh -c 'echo started'
    p init inited
    is initialized "$(p inspect -f '{{.State.Status}}' inited)"
    is started "$(p start -a inited)"
    p rm inited
}
check_inspect() {
    p run -d --name insp box sleep 100
    local pid
    pid=$(p inspect -f '{{.State.Pid}}' insp)
    like 'sleep*' "$(tr '\0' ' ' <"/proc/$pid/cmdline")"
    is "$runtime" "$(p inspect -f '{{.OCIRuntime}}' insp)"
    p rm -ft0 insp
}
check_restart() {
    p run -d --name again --restart on-failure:2 box sh -c 'echo x >>/tmp/times; exit 1'
    restarted() { [ "$(p inspect -f '{{.RestartCount}}' again)" = 2 ]; }
    until_ok restarted
    p rm -f again
    p run -d --name again box sleep 100
    p restart -t 0 again
    is running "$(p inspect -f '{{.State.Status}}' again)"
    p rm -ft0 again
}
check_cp() {
    echo cargo >"$home/cargo"
    chmod 644 "$home/cargo"
    p run -d --name copies box sleep 100
    p cp "$home/cargo" copies:/tmp/cargo
    is cargo "$(p exec copies cat /tmp/cargo)"
    p exec copies sh -c 'echo back >/tmp/back'
    is back "$(p cp copies:/tmp/back - | tar -xOf -)"
    p rm -ft0 copies
}
check_wait_after_kill_of_init() {
    p run -d --name shot box sleep 100
    kill -9 "$(p inspect -f '{{.State.Pid}}' shot)"
    is 137 "$(p wait shot)"
    p rm shot
}
check_commit() {
    p run --name base box sh -c 'echo kept >/kept'
    p commit -q base boxed >/dev/null
    is kept "$(p run --rm boxed cat /kept)"
    p rm base
    p rmi boxed >/dev/null
}

# --- Files.
check_volume() {
    as_subject mkdir -p "$home/vol"
    p run --rm -v "$home/vol:/vol" box sh -c 'echo in >/vol/file'
    is in "$(cat "$home/vol/file")"
    exits 1 p run --rm -v "$home/vol:/vol:ro" box sh -c 'echo no >/vol/file'
    is in "$(cat "$home/vol/file")"
}
check_named_volume() {
    p volume create named >/dev/null
    p run --rm -v named:/data box sh -c 'echo kept >/data/file'
    is kept "$(p run --rm -v named:/data:ro,noexec box cat /data/file)"
    p run -d --name vols -v named:/data box sleep 100
    is kept "$(p run --rm --volumes-from vols box cat /data/file)"
    p rm -ft0 vols
    p volume rm named >/dev/null
}
check_mount_option() {
    as_subject mkdir -p "$home/m"
    echo x >"$home/m/f"
    is x "$(p run --rm --mount "type=bind,src=$home/m,dst=/m,ro=true,bind-propagation=rprivate" box cat /m/f)"
    is x "$(p run --rm --mount "type=bind,src=$home/m/f,dst=/one-file" box cat /one-file)"
}
check_overlay_volume() {
    as_subject mkdir -p "$home/low"
    as_subject sh -c "echo low >$home/low/f"
    is changed "$(p run --rm -v "$home/low:/low:O" box sh -c 'echo changed >/low/f; cat /low/f')"
    is low "$(cat "$home/low/f")"
}
check_tmpfs() {
    is 'tmpfs 65536' "$(p run --rm --tmpfs /scratch:size=64m,mode=1777 box sh -c 'df -k /scratch | awk "NR==2{print \$1, \$2}"')"
    # What the image has there is copied up.
    is yes "$(p run --rm --tmpfs /etc box sh -c 'test -e /etc/passwd && echo yes')"
}
check_read_only() {
    exits 1 p run --rm --read-only box sh -c 'echo x >/file'
    is x "$(p run --rm --read-only --tmpfs /tmp box sh -c 'echo x >/tmp/file; cat /tmp/file')"
}
check_masked() {
    is '' "$(p run --rm box sh -c 'ls -A /proc/acpi /proc/scsi /sys/firmware 2>/dev/null | grep -v :; cat /proc/kcore 2>/dev/null | head -c 5' | tr -d '\n')"
    exits 1 p run --rm box sh -c 'echo 1 >/proc/sys/kernel/panic'
}
check_dev() {
    is 'c c c c c c' "$(p run --rm box sh -c 'for d in null zero full random urandom tty; do stat -c %F /dev/$d; done' | sed 's/character special file/c/' | tr '\n' ' ' | sed 's/ $//')"
    is ok "$(p run --rm box sh -c 'echo x >/dev/null; head -c 4 /dev/zero | wc -c >/dev/shm/n; test -d /dev/mqueue && echo ok')"
    is 'fd 0 1 2' "$(p run --rm box sh -c 'readlink /dev/fd >/dev/null && echo fd $(ls /proc/self/fd | grep -v 3)' | tr '\n' ' ' | sed 's/ $//')"
}
check_device() { p run --rm --device /dev/zero:/dev/nought box sh -c 'head -c 1 /dev/nought | grep -q "" || test -c /dev/nought'; }
check_shm_size() { is 32768 "$(p run --rm --shm-size 32m box df -k /dev/shm | awk 'NR==2{print $2}')"; }

# --- Who it is.
check_user() {
    is 'uid=1000(fred) gid=1000(fred) groups=8(mail),1000(fred)' "$(p run --rm --user fred box id)"
    is 'uid=12(12) gid=8(mail)' "$(p run --rm --user 12:8 box id | cut -d ' ' -f 1,2)"
    like '*99*' "$(p run --rm --user fred --group-add 99 box id -G)"
}
check_keep_id() {
    [ "$as_root" = no ] || skip 'keep-id is for ordinary users'
    is "$(as_subject id -u)" "$(p run --rm --userns=keep-id box id -u)"
    as_subject mkdir -p "$home/mine"
    p run --rm --userns=keep-id -v "$home/mine:/mine" box touch /mine/file
    is "$(as_subject id -u)" "$(stat -c %u "$home/mine/file")"
}
check_userns_auto() {
    [ "$as_root" = yes ] || skip 'only root has a range to share out here'
    p run --rm --userns=auto:size=4096 box cat /proc/self/uid_map >"$work/map" 2>&1 || { grep -q 'subuid\|subgid\|find\|containers' "$work/map" && skip "$(cat "$work/map")"; }
    is 4096 "$(awk '{print $3}' "$work/map")"
}
check_uidmap() {
    [ "$as_root" = yes ] || skip 'as root'
    is '0 100000 1000' "$(p run --rm --uidmap 0:100000:1000 --gidmap 0:100000:1000 box cat /proc/self/uid_map | tr -s ' ' | sed 's/^ //')"
}
caps() { awk '/^CapEff/{print $2}'; }
check_cap_drop() { is 0000000000000000 "$(p run --rm --cap-drop all box cat /proc/self/status | caps)"; }
check_cap_add() { is 0000000000002000 "$(p run --rm --cap-drop all --cap-add net_raw box cat /proc/self/status | caps)"; }
check_cap_user() { is 0000000000000000 "$(p run --rm --user fred box cat /proc/self/status | caps)"; }
check_no_new_privileges() {
    is 1 "$(p run --rm --security-opt no-new-privileges box awk '/^NoNewPrivs/{print $2}' /proc/self/status)"
}
check_seccomp() {
    is 2 "$(p run --rm box awk '/^Seccomp:/{print $2}' /proc/self/status)"
    # In the profile of every engine, and not a matter of capabilities.
    like '*not permitted*' "$(p run --rm --user fred box swapoff /dev/null 2>&1)"
}
check_unconfined() { is ok "$(p run --rm --security-opt seccomp=unconfined box echo ok)"; }
check_profile() {
    # A profile of our own, with an errno nobody else uses; the program must see it, whoever else filters.
    cat >"$home/profile.json" <<EOF
{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],
 "syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":18}]}
EOF
    like '*ross-device*' "$(p run --rm --security-opt "seccomp=$home/profile.json" box mkdir /tmp/x 2>&1)"
    is ok "$(p run --rm --security-opt "seccomp=$home/profile.json" box sh -c 'echo >/tmp/f && echo ok')"
}
check_privileged() { is ok "$(p run --rm --privileged box echo ok)"; }
check_ulimit() { is 77 "$(p run --rm --ulimit nofile=77:77 --ulimit nproc=99:99 box sh -c 'ulimit -n')"; }
check_umask() { is 0027 "$(p run --rm --umask 0027 box sh -c umask)"; }
check_hostname() { is lighthouse "$(p run --rm --hostname lighthouse box hostname)"; }
check_env() { is 'a b' "$(p run --rm --env 'X=a b' box sh -c 'echo "$X"')"; }
check_workdir() {
    is /var "$(p run --rm --workdir /var box pwd)"
    p run --rm --workdir /not/yet box pwd >"$work/out" 2>&1 && is /not/yet "$(cat "$work/out")" || like '*not/yet*' "$(cat "$work/out")"
}

# --- Namespaces.
check_init() { like '*init -- cat*' "$(p run --rm --init box cat /proc/1/cmdline | tr '\0' ' ')"; }
check_pid() { is 1 "$(p run --rm box sh -c 'echo $$')"; }
check_pid_host() {
    like '*' "$(p run --rm --pid=host box sh -c 'test $$ -gt 1 && echo far')"
    is far "$(p run --rm --pid=host box sh -c 'test $$ -gt 1 && echo far')"
    exits 5 p run --rm --pid=host box sh -c 'exit 5'
}
check_pid_container() {
    p run -d --name first box sleep 987
    like '*sleep 987*' "$(p run --rm --pid=container:first box ps)"
    p rm -ft0 first
}
check_ipc_container() {
    p run -d --ipc=shareable --name first box sleep 100
    is "$(p exec first readlink /proc/self/ns/ipc)" "$(p run --rm --ipc=container:first box readlink /proc/self/ns/ipc)"
    p rm -ft0 first
}
check_ipc_host() {
    [ -d /dev/mqueue ] || skip "this host has no /dev/mqueue, which podman binds"
    is "$(readlink /proc/self/ns/ipc)" "$(p run --rm --ipc=host box readlink /proc/self/ns/ipc)"
}
check_uts_host() { is "$(hostname)" "$(p run --rm --uts=host box hostname)"; }
check_cgroupns() { is ok "$(p run --rm --cgroupns=host box echo ok)"; }
check_net_none() { is lo "$(p run --rm --network none box ls /sys/class/net 2>/dev/null | tr '\n' ' ' | sed 's/ $//')"; }
check_net_host() { is "$(readlink /proc/self/ns/net)" "$(p run --rm --network host box readlink /proc/self/ns/net)"; }
check_net_slirp4netns() {
    [ -w /dev/net/tun ] && as_subject test -w /dev/net/tun || skip '/dev/net/tun is not open to this user'
    like '*tap0*' "$(p run --rm --network slirp4netns box ip addr)"
}
# A service on the host's loopback, reached by name through the tap.
check_net_slirp4netns_host() {
    as_subject test -w /dev/net/tun || skip '/dev/net/tun is not open to this user'
    echo through >"$home/page"
    (cd "$home" && exec timeout 20 busybox httpd -f -p 127.0.0.1:18431) & server=$!
    sleep 0.3
    got=$(p run --rm --network slirp4netns:allow_host_loopback=true box wget -qO- http://10.0.2.2:18431/page) || :
    kill $server
    is through "$got"
}
check_net_pasta() {
    command -v pasta >/dev/null || skip 'no pasta'
    as_subject test -w /dev/net/tun || skip '/dev/net/tun is not open to this user'
    p run --rm --network pasta box ip addr >"$work/out" 2>&1 && { like '*tap*' "$(cat "$work/out")"; return; }
    # Podman before 4.4 does not know it: a namespace that pasta made, joined by its path.
    if [ "$as_root" = yes ]; then
        unshare -n sleep 20 & holder=$!
        echo $holder >"$work/pid"
    else
        p unshare sh -c 'unshare -n sleep 20 & echo $!; wait' >"$work/pid" 2>/dev/null & holder=$!
    fi
    sleep 0.7
    pid=$(head -n 1 "$work/pid")
    [ -n "$pid" ] || skip 'no namespace of our own'
    as_subject timeout 15 pasta --config-net --quiet --pid "$runtime_dir/pasta.pid" "$pid" >"$work/pasta.out" 2>&1 || { kill $holder; skip "pasta: $(tail -n 1 "$work/pasta.out")"; }
    seen=$(p run --rm --network "ns:/proc/$pid/ns/net" box ls /sys/class/net | tr '\n' ' ') || :
    kill $holder
    kill "$(cat "$runtime_dir/pasta.pid")" 2>/dev/null || :
    like '*lo*' "$seen"
    case $seen in 'lo ') return 1 ;; esac
}
check_net_bridge() {
    [ "$as_root" = yes ] || skip 'a bridge is for root'
    p run --rm --network podman box ip addr >"$work/out" 2>&1 || { grep -q -i 'iptables\|nft\|plugin\|bridge' "$work/out" && skip "$(tail -n 1 "$work/out")"; }
    like '*eth0*' "$(cat "$work/out")"
}
check_net_container() {
    p run -d --name first box sleep 100
    is "$(p exec first readlink /proc/self/ns/net)" "$(p run --rm --network container:first box readlink /proc/self/ns/net)"
    p rm -ft0 first
}
check_sysctl() { is '5000	6000' "$(p run --rm --sysctl 'net.ipv4.ip_local_port_range=5000 6000' box cat /proc/sys/net/ipv4/ip_local_port_range)"; }
check_sysctl_ipc() { is 111 "$(p run --rm --sysctl kernel.msgmni=111 box cat /proc/sys/kernel/msgmni)"; }

# --- Limits.
check_memory() {
    [ "$as_root" = yes ] && [ "$cgroups" = host ] || skip 'no delegated cgroup'
    p run -d --name small --memory 32m box sleep 100
    is 33554432 "$(p exec small cat /sys/fs/cgroup/memory/memory.limit_in_bytes)"
    p rm -ft0 small
    exits 137 p run --rm --memory 16m --memory-swap 16m box sh -c 'x=a; while :; do x=$x$x$x; done'
}
check_memory_rootless() {
    [ "$as_root" = no ] || skip 'about ordinary users'
    # Podman warns, or the runtime does: the container starts without the limit, or is refused with words.
    p run --rm --memory 64m box echo ok >"$work/out" 2>&1 || :
    like '*ok*' "$(cat "$work/out")" || like '*emory*' "$(cat "$work/out")" || like '*cgroup*' "$(cat "$work/out")"
}
check_pids_limit() {
    [ "$as_root" = yes ] && [ "$cgroups" = host ] || skip 'no delegated cgroup'
    like '*an*t fork*' "$(p run --rm --pids-limit 5 box sh -c 'for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait' 2>&1)"
}
check_cpus() {
    [ "$as_root" = yes ] && [ "$cgroups" = host ] || skip 'no delegated cgroup'
    is 50000 "$(p run --rm --cpus 0.5 box cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us)"
}
check_stats() {
    [ "$as_root" = yes ] && [ "$cgroups" = host ] || skip 'no delegated cgroup'
    p run -d --name counted box sleep 100
    like '*counted*' "$(p stats --no-stream --format '{{.Name}} {{.PIDs}}' counted)"
    p rm -ft0 counted
}
check_oom_score() { is 500 "$(p run --rm --oom-score-adj 500 box cat /proc/self/oom_score_adj)"; }
check_no_cgroups() {
    case $kind in crun | sentry-oci) ;; *) skip "podman knows that $kind needs cgroups" ;; esac
    is ok "$(p run --rm --cgroups=disabled box echo ok)"
}

# --- What engines add.
check_annotation() {
    p run -d --name noted --annotation org.example.colour=blue box sleep 100
    is blue "$(p inspect -f '{{index .Config.Annotations "org.example.colour"}}' noted)"
    p rm -ft0 noted
}
check_preserve_fds() {
    echo through >"$home/third"
    is through "$(as_subject $podman_env sh -c "exec timeout 60 podman $places --runtime $runtime run --rm --preserve-fds 1 box cat /proc/self/fd/3 3<$home/third")"
}
check_healthcheck() {
    p run -d --name healthy --health-cmd 'test -e /tmp/fine' --health-interval disable box sh -c 'touch /tmp/fine; sleep 100'
    sleep 0.3
    exits 0 p healthcheck run healthy
    p exec healthy rm /tmp/fine
    exits 1 p healthcheck run healthy
    p rm -ft0 healthy
}
check_hooks() {
    as_subject mkdir -p "$home/hooks.d"
    for stage in prestart createRuntime createContainer poststart poststop; do
        cat >"$home/hooks.d/$stage.json" <<EOF
{"version":"1.0.0","hook":{"path":"/bin/sh","args":["sh","-c","cat >>$home/hook-$stage"]},"when":{"always":true},"stages":["$stage"]}
EOF
    done
    p --hooks-dir "$home/hooks.d" run --rm --name hooked box true
    for stage in prestart createRuntime createContainer poststart; do
        like '*"id":*' "$(tr -d ' ' <"$home/hook-$stage")"
    done
    until_ok test -s "$home/hook-poststop"
    cat >"$home/hooks.d/prestart.json" <<EOF
{"version":"1.0.0","hook":{"path":"/bin/false"},"when":{"always":true},"stages":["prestart"]}
EOF
    exits 126 p --hooks-dir "$home/hooks.d" run --rm --name unhooked box true
}
check_secret() {
    echo hush >"$home/hush"
    p secret create word "$home/hush" >/dev/null
    is hush "$(p run --rm --secret word box cat /run/secrets/word)"
    p secret rm word >/dev/null
}
check_pod() {
    command -v catatonit >/dev/null || skip 'no catatonit for the pause container'
    p pod create --name pod --share net,ipc,uts,pid >/dev/null 2>"$work/out" || { grep -q pause "$work/out" && skip "$(tail -n 1 "$work/out")"; cat "$work/out"; return 1; }
    p run -d --pod pod --name one box sleep 765
    like '*sleep 765*' "$(p run --rm --pod pod box ps)"
    is "$(p exec one readlink /proc/self/ns/net)" "$(p run --rm --pod pod box readlink /proc/self/ns/net)"
    is "$(p exec one readlink /proc/self/ns/ipc)" "$(p run --rm --pod pod box readlink /proc/self/ns/ipc)"
    p pod stop -t 0 pod >/dev/null
    p pod rm -f pod >/dev/null
}
check_build() {
    as_subject mkdir -p "$home/build"
    echo source >"$home/build/file"
    cat >"$home/build/Containerfile" <<EOF
FROM localhost/box
COPY file /file
RUN mkdir /made && sed s/source/result/ /file >/made/file && chown fred /made
RUN --mount=type=tmpfs,target=/scratch touch /scratch/x && test -e /made/file
USER fred
CMD ["cat", "/made/file"]
EOF
    p build --network none -t built "$home/build" >"$work/out" 2>&1 || { cat "$work/out"; return 1; }
    is result "$(p run --rm built)"
    p rmi built >/dev/null
    echo 'FROM localhost/box
RUN exit 3' >"$home/build/Containerfile"
    exits 3 p build --network none -t failing "$home/build" >/dev/null 2>&1
}
check_buildah() {
    command -v buildah >/dev/null || skip 'no buildah'
    b() { as_subject $podman_env timeout -k 5 60 buildah --root "$home/storage" --runroot "$runtime_dir/containers" "$@"; }
    made=$(b from localhost/box)
    is 'from buildah' "$(b run --runtime "$runtime" --network none "$made" -- echo 'from buildah')"
    exits 6 b run --runtime "$runtime" --network none "$made" -- sh -c 'exit 6'
    b rm "$made" >/dev/null
}
check_play_kube() {
    cat >"$home/pod.yaml" <<EOF
apiVersion: v1
kind: Pod
metadata:
  name: kube
spec:
  hostNetwork: true
  containers:
  - name: worker
    image: localhost/box:latest
    command: ["/bin/sh", "-c", "sleep 100"]
    imagePullPolicy: Never
    volumeMounts: [{name: word, mountPath: /config}]
  volumes:
  - name: word
    emptyDir: {}
EOF
    p play kube "$home/pod.yaml" >"$work/out" 2>&1 || { grep -q 'pause' "$work/out" && skip "$(tail -n 1 "$work/out")"; cat "$work/out"; return 1; }
    is running "$(p inspect -f '{{.State.Status}}' kube-worker)"
    is ok "$(p exec kube-worker /bin/sh -c 'echo ok >/config/word; cat /config/word')"
    p play kube --down "$home/pod.yaml" >/dev/null
}
check_no_runtime_dir() {
    [ "$as_root" = no ] || skip 'about ordinary users'
    is ok "$(as_subject CONTAINERS_CONF="$work/containers.conf" timeout 60 podman --root "$home/storage2" --runroot "$work/run2" --tmpdir "$home/run3" --runtime "$runtime" run --rm --rootfs "$work/busybox" echo ok 2>"$work/out")" || { cat "$work/out"; return 1; }
}
check_generate_kube() {
    p create --name gen box sleep 1
    like '*kind: Pod*' "$(p generate kube gen)"
    p rm gen
}
check_left_overs() {
    p run -d --name last box sleep 100
    pid=$(p inspect -f '{{.State.Pid}}' last)
    p rm -ft0 last
    # Nothing of the container may live on: neither it nor who watched it.
    until_ok sh -c "! kill -0 $pid 2>/dev/null"
    until_ok sh -c "! ps -eo args | grep -v grep | grep -q '$runtime.*last'"
}
check_nested() {
    [ "$as_root" = yes ] || skip 'a container in a container takes a second range of ids'
    mkdir -p "$home/inner/rootfs"
    cp -a "$work/busybox/." "$home/inner/rootfs/"
    cp "$(readlink -f "$runtime")" "$home/inner/rootfs/bin/$kind"
    ldd "$(readlink -f "$runtime")" 2>/dev/null | grep -q '=>' && skip "$kind is not a static program"
    # A container of the engine's own runtime around it: what ours holds makes no namespaces.
    outer=$(command -v runc || command -v crun) || skip 'no other runtime for the container around it'
    is nested "$(p --runtime "$outer" run --rm --privileged --rootfs "$home/inner/rootfs" sh -c "R=$kind;"'cd /root && mkdir -p b/rootfs/bin && cp /bin/busybox b/rootfs/bin/sh && cd b && $R spec && sed -i "s/\"terminal\": true/\"terminal\": false/; s/\"sh\"/\"sh\",\"-c\",\"echo nested\"/" config.json && $R --root /tmp/r run inner' 2>"$work/out")" || { cat "$work/out"; return 1; }
}

# --- What only ours adds: the sentry's answers, and who may choose them.
ours() { [ "$kind" = sentry-oci ] || skip 'about sentry oci'; }
check_mounts_inside() {
    ours
    is tmpfs "$(p run --rm --cap-add sys_admin box sh -c 'mount -t tmpfs none /tmp && stat -f -c %T /tmp')"
    exits 1 p run --rm --cap-add sys_admin box mount -t debugfs none /tmp
}
check_makes_null() {
    ours
    is 'c 1:3' "$(p run --rm --cap-add mknod box sh -c 'mknod /root/null c 1 3 && echo x >/root/null && stat -c "%F %t:%T" /root/null' | sed 's/character special file/c/')"
    exits 1 p run --rm --cap-add mknod box mknod /tmp/disk b 8 0
}
check_own_clock() {
    ours
    now=$(date +%s)
    there=$(p run --rm --annotation dev.sentry.clock=+3d box date +%s)
    [ $((there - now)) -ge 259199 ] && [ $((there - now)) -le 259230 ]
}
check_policies() {
    ours
    exits 1 p run --rm --cap-add sys_admin --annotation dev.sentry.policy=plain box mount -t tmpfs none /tmp
    is ok "$(p run --rm --annotation dev.sentry.policy=strict box echo ok)"
    is 'uid=1000 1' "$(p run --rm --user fred --annotation dev.sentry.policy=judge box sh -c 'id | cut -d "(" -f 1; awk "/^NoNewPrivs/{print \$2}" /proc/self/status' | tr '\n' ' ' | sed 's/ $//')"
    p run -d --name judged --annotation dev.sentry.policy=judge box sleep 100
    is in "$(p exec judged echo in)"
    p rm -ft0 judged
    like '*there is no policy*' "$(p run --rm --annotation dev.sentry.policy=mine box true 2>&1)"
    like '*there is no annotation*' "$(p run --rm --annotation dev.sentry.polcy=plain box true 2>&1)"
}

# --- A whole system, with --long: what apt, python and gcc ask of a kernel.
check_debian() {
    [ $long = yes ] || skip 'only with --long'
    command -v debootstrap >/dev/null && [ "$(id -u)" = 0 ] || skip 'debootstrap takes root'
    debootstrap --variant=minbase --include=python3-minimal,gcc,libc6-dev bookworm "$work/debian" >"$work/out" 2>&1 || skip "debootstrap: $(tail -n 1 "$work/out")"
    tar -C "$work/debian" --exclude=./dev -cf "$work/debian.tar" .
    rm -rf "$work/debian"
    chmod a+r "$work/debian.tar"
    long p import "$work/debian.tar" debian >/dev/null
    rm "$work/debian.tar"
}
debian() { p image exists debian || skip 'no debian'; }
check_debian_python() {
    debian
    is '45 [1, 4, 9] ok' "$(p run --rm debian python3 -c '
import subprocess, threading, tempfile, os
total = []
threads = [threading.Thread(target=total.append, args=(n,)) for n in range(10)]
[t.start() for t in threads]; [t.join() for t in threads]
with tempfile.TemporaryDirectory() as d:
    os.mkfifo(d + "/f"); os.symlink("f", d + "/l"); os.chmod(d, 0o700)
print(sum(total), [n * n for n in (1, 2, 3)], subprocess.run(["echo", "ok"], capture_output=True, text=True).stdout.strip())')"
}
check_debian_gcc() {
    debian
    is 'compiled' "$(p run --rm debian sh -c 'printf "#include <stdio.h>\nint main(void){puts(\"compiled\");}" >/tmp/a.c && gcc -O2 -o /tmp/a /tmp/a.c && /tmp/a')"
}
check_debian_apt() {
    debian
    as_subject test -w /dev/net/tun || skip '/dev/net/tun is not open to this user'
    like '*Hello, world!*' "$(long p run --rm --network slirp4netns debian sh -c 'apt-get -q update && apt-get -qy install hello && hello' 2>"$work/out")" || { tail -n 5 "$work/out"; return 1; }
}
check_debian_users() {
    debian
    is 'fred fred:mail 2750' "$(p run --rm debian sh -c 'useradd -m fred && install -o fred -g mail -m 2750 -d /srv/fred && su fred -c "id -un" && stat -c "%U:%G %a" /srv/fred' | tr '\n' ' ' | sed 's/ $//')"
}

for each in $(sed -n 's/^check_\([a-z0-9_]*\)() .*/\1/p' "$self"); do
    failures_before=$failed
    check "$each"
    # What a failed check left must not be another's failure.
    [ $failed = $failures_before ] || p rm --all --force --time 0 >/dev/null 2>&1 || true
done
summary
