#!/bin/sh
# Does `compare` find a delay of 5 us in one handler, and nothing in two runs of the same binary?
# planted.sh DIRECTORY: where sentry, sentry-bench, micro and sentry-delay were built. Takes two minutes or so.
set -eu
built=$1
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
user= first=
# Root may go before other work on the machine; the sandboxes themselves are an ordinary user's.
[ "$(id -u)" = 0 ] && user="--user sentry-test" first="nice -n -10"

measure() {
    # shellcheck disable=SC2086 # nothing is no word
    $first "$built/sentry-bench" peers $user --sentry "$built/$1" --rounds "${ROUNDS:-20}" --json "$out/$2" \
        --question open --question stat --subject "native again" --subject "sentry --interpose full" >"$out/$2.log" 2>&1 ||
        { cat "$out/$2.log"; exit 1; }
}

measure sentry first
measure sentry second
measure sentry-delay delayed

echo "== the same binary twice"
"$built/sentry-bench" compare "$out/first" "$out/second" || { echo "FAILED: the same binary differs from itself"; exit 1; }
echo "== 5 us planted into openat"
code=0
"$built/sentry-bench" compare "$out/second" "$out/delayed" >"$out/found" || code=$?
cat "$out/found"
[ "$code" = 1 ] || { echo "FAILED: the delay was not found"; exit 1; }
sed -n '/^costs more:/,/^[^ ]/p' "$out/found" | grep -q 'open' || { echo "FAILED: it is not open that costs more"; exit 1; }
! sed -n '/^costs more:/,/^[^ ]/p' "$out/found" | grep -q '^  .*`stat`' || { echo "FAILED: stat costs more, too"; exit 1; }
echo "found, and nothing else"
