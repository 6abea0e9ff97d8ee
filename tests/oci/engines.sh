#!/bin/sh
# All trials of engines over sentry-oci and the other runtimes, and a page of it. Needs root, and a quarter of an hour.
# Usage: engines.sh SENTRY-OCI PAGE
set -eu
here=$(dirname "$(realpath "$0")")
ours=$(realpath -s "$1")
page=$2
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# One trial; what fails is told by the page.
trial() {
    name=$1 runtime=$2 user=$3
    shift 3
    "$here/$name.sh" "$runtime" "$@" >"$logs/$name--$(basename "$runtime")--$user" 2>&1 || true
}

for runtime in "$ours" "$(command -v runc)" "$(command -v crun)"; do
    [ -n "$runtime" ] || continue
    trial podman "$runtime" 'an ordinary user'
    trial podman "$runtime" root --as-root
    trial containerd "$runtime" root
    trial containerd "$runtime" 'an ordinary user' --rootless
    # crun refuses the daemons' hybrid cgroups, if this host has such.
    [ "$(basename "$runtime")" = crun ] && [ -d /sys/fs/cgroup/unified ] && continue
    trial docker "$runtime" root
    trial kubernetes "$runtime" root
done
/usr/bin/python3 "$here/lib/page.py" "$logs"/*--* >"$logs/page"
mv "$logs/page" "$page"
chmod 644 "$page"
