#!/bin/sh
# CPython's own tests, natively, in a sandbox of ring 1, and with every path interposed: which tests fail in one and not in
# another. Usage: cpython.sh SENTRY [MODULE]...
#
# Started by root, everything runs as the ordinary user sentry-test. Exits with 1 if anything fails interposed that does
# not fail in ring 1, and names what ring 1 itself changes.
set -eu

sentry=$1
shift
[ $# -gt 0 ] || set -- test_os test_posix test_shutil test_tempfile test_pathlib test_glob test_stat test_fileio test_mmap \
    test_subprocess test_zipfile test_tarfile
python=/usr/bin/python3
$python -c 'import test.support' 2>/dev/null || { echo "CPython's tests are missing: apt install libpython3.11-testsuite" >&2; exit 2; }

as_user() { "$@"; }
if [ "$(id -u)" = 0 ]; then
    as_user() { setpriv --reuid=sentry-test --regid=sentry-test --clear-groups -- env -i HOME=/home/sentry-test "$@"; }
fi
home=$(as_user sh -c 'echo "$HOME"')
work=$(as_user mktemp -d "$home/cpython-XXXXXX")
results=$(mktemp -d)
copy=$results/sentry
cp "$sentry" "$copy"
chmod 755 "$results" "$copy"
trap 'rm -rf "$work" "$results"' EXIT
cd "$work"

# One module at a time: what hangs or crashes takes only itself along.
run() {
    world=$1
    module=$2
    shift 2
    as_user env PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 TMPDIR=/tmp timeout 900 "$@" \
        $python -m unittest -v "test.$module" >"$results/$world-$module.log" 2>&1 </dev/null || true
    # "test_x (test.test_os.Class.test_x) ... FAIL"; output of the test may stand in between.
    sed -n 's/^\(ERROR\|FAIL\|UNEXPECTED SUCCESS\): \(.*\)$/\2/p' "$results/$world-$module.log" | sort -u >"$results/$world-$module"
    tail -n 3 "$results/$world-$module.log" | grep -q '^\(OK\|FAILED\)' || echo "$module does not end" >>"$results/$world-$module"
}

differences=0
for module; do
    run native "$module"
    run ring1 "$module" "$copy" run --quiet --write . --
    run full "$module" "$copy" run --quiet --interpose full --write . --
    ran=$(sed -n 's/^Ran \([0-9]*\) tests.*/\1/p' "$results/full-$module.log")
    echo "$module: ${ran:-no} tests, fail natively $(wc -l <"$results/native-$module"), in ring 1 $(wc -l <"$results/ring1-$module"), interposed $(wc -l <"$results/full-$module")"
    comm -3 "$results/native-$module" "$results/ring1-$module" | sed 's/^\t/  fails in ring 1 only: /; t; s/^/  fails natively only: /'
    comm -3 "$results/ring1-$module" "$results/full-$module" | sed 's/^\t/  fails interposed only: /; t; s/^/  does not fail interposed: /'
    comm -13 "$results/ring1-$module" "$results/full-$module" | grep -q . && differences=1
done
[ "$differences" = 0 ]
