#!/bin/sh
# A pod of deploy/kubernetes.yaml on one machine: containerd with the lines of deploy/containerd.toml, its CRI service asked as
# a kubelet asks it, in a network namespace of its own with a bridge made by CNI. Needs root.
# Usage: kubernetes.sh RUNTIME [--only "NAME NAME"]
set -eu
. "$(dirname "$(realpath "$0")")/lib/engines.sh"
[ "$(id -u)" = 0 ] || { echo 'kubernetes.sh: containerd needs root' >&2; exit 2; }
if [ -z "${SENTRY_OWN_HOST:-}" ]; then
    SENTRY_OWN_HOST=yes exec unshare --mount --net --propagation private -- "$0" "$@"
fi

as_root=yes only='' cgroups=host
here=$(dirname "$(realpath "$0")")
runtime=$(realpath -s "$1")
shift
[ "${1:-}" != --only ] || only=$2
for tool in containerd ctr /usr/lib/cni/bridge /usr/lib/cni/host-local; do
    command -v $tool >/dev/null || { echo "SKIP  kubernetes: no $tool"; exit 0; }
done
python=/usr/bin/python3
$python -c 'import grpc, yaml' 2>/dev/null || { echo 'SKIP  kubernetes: no python3-grpcio or python3-yaml'; exit 0; }
ordinary_host
own_place
ip link set lo up

mkdir -p "$work/cni"
cat >"$work/cni/10-trial.conflist" <<EOF
{"cniVersion":"0.4.0","name":"trial","plugins":[
 {"type":"bridge","bridge":"trial0","isGateway":true,"ipMasq":false,
  "ipam":{"type":"host-local","dataDir":"$work/cni-state","ranges":[[{"subnet":"10.88.7.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}}]}
EOF
# What an administrator adds is what is tried; around it only directories of our own.
{
    sed "s|/usr/local/bin/sentry-oci|$runtime|" "$here/../../deploy/containerd.toml"
    cat <<EOF
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "localhost/pause:trial"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "$work/cni"
[grpc]
  address = "$work/containerd.sock"
EOF
} >"$work/containerd.toml"
sed -i "/^version = 2/a root = \"$work/lib\"\nstate = \"$work/state\"\ndisabled_plugins = [\"io.containerd.snapshotter.v1.devmapper\", \"io.containerd.internal.v1.opt\"]" "$work/containerd.toml"
containerd --config "$work/containerd.toml" >"$work/containerd.log" 2>&1 &
daemon=$!
c() { timeout -k 5 60 ctr --address "$work/containerd.sock" --namespace k8s.io "$@"; }

clear() {
    exec 8>&- || true
    clear_tasks
}
trap end_daemon EXIT
trap 'exit 1' INT TERM HUP

busybox_root
until_ok c version || { tail "$work/containerd.log"; exit 1; }
mkdir "$work/image"
layer=$(sha256sum <"$work/busybox.tar" | cut -d ' ' -f 1)
ln "$work/busybox.tar" "$work/image/layer.tar"
for image in '"sh"' '"sleep","100000"'; do
    echo "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{\"Env\":[\"PATH=/bin\"],\"Cmd\":[$image]},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:$layer\"]}}" >"$work/image/config.json"
    [ "$image" = '"sh"' ] && tag=docker.io/library/busybox:1.36 || tag=localhost/pause:trial
    echo "[{\"Config\":\"config.json\",\"RepoTags\":[\"$tag\"],\"Layers\":[\"layer.tar\"]}]" >"$work/image/manifest.json"
    tar -C "$work/image" -cf "$work/image.tar" manifest.json config.json layer.tar
    c image import "$work/image.tar" >"$work/import.out" 2>&1 || { cat "$work/import.out"; exit 1; }
done

mkfifo "$work/to" "$work/from"
timeout 120 $python "$here/lib/pod.py" "$work/containerd.sock" "$here/../../deploy/kubernetes.yaml" "$work/pod" <"$work/to" >"$work/from" 2>"$work/pod.err" &
exec 8>"$work/to" 9<"$work/from"
answer=''
ask() {
    echo "$*" >&8
    read -r answer <&9 || { tail -n 3 "$work/pod.err"; return 1; }
}

check_pod_starts() { read -r answer <&9 || { tail -n 3 "$work/pod.err"; return 1; } && is ready "$answer"; }
check_state() { ask state main && is running "$answer"; }
check_runtime_binary() {
    like "*$runtime*" "$(cat "$work"/state/io.containerd.runtime.v2.task/k8s.io/*/options.json "$work"/state/io.containerd.runtime.v2.task/k8s.io/*/runtime 2>/dev/null)"
}
check_exec() { ask exec main echo hello && is 'hello|0' "$answer"; }
check_exec_code() { ask exec main sh -c 'exit${IFS}9' && is '|9' "$answer"; }
check_log() { ask log main && like '*stdout F supervised by: *' "$answer"; }
check_network() { ask exec main hostname -i && ask exec main ls /sys/class/net && like '*eth0*|0' "$answer"; }
check_capabilities() { ask exec main grep CapEff /proc/self/status && like '*0000000000000000|0' "$answer"; }
check_no_new_privileges() { ask exec main grep NoNewPrivs /proc/self/status && like '*1|0' "$answer"; }
check_volume() {
    ask exec main touch /scratch/made && is '|0' "$answer"
    [ -e "$work/pod/volume-scratch/made" ]
}
check_pod_ends() {
    ask end && is gone "$answer"
    is '' "$(c tasks ls -q)"
}

for each in $(sed -n 's/^check_\([a-z0-9_]*\)() .*/\1/p' "$self"); do
    check "$each"
done
summary
