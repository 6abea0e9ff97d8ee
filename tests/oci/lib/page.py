"""Makes docs/engines.md of what the trials printed. Usage: page.py LOG... where a log is named TRIAL--RUNTIME--USER."""

import os
import re
import sys

TRIALS = {"podman": "podman, conmon, buildah", "containerd": "containerd, ctr", "docker": "docker", "kubernetes": "a pod over CRI"}


def place(path, trials, runtimes):
    trial, runtime, user = os.path.basename(path).split("--")
    return trials.index(trial), user, runtimes.index(runtime)


def main():
    print("# Engines\n")
    print("What passes under which engine, over each runtime, on one machine: a count of the named checks of `tests/oci/*.sh`.")
    print("What a check was skipped for, the host lacks. This page is made by `tests/oci/engines.sh`.\n")
    print("| engine | runtime | as | passed | failed | skipped |\n|---|---|---|---:|---:|---:|")
    told = []
    order = list(TRIALS)
    runtimes = ["sentry-oci", "runc", "crun"]
    for path in sorted(sys.argv[1:], key=lambda path: place(path, order, runtimes)):
        trial, runtime, user = os.path.basename(path).split("--")
        with open(path) as file:
            text = file.read()
        counts = re.search(r"(\d+) passed, (\d+) failed, (\d+) skipped", text)
        row = f"| {TRIALS[trial]} | {runtime} | {user} | "
        if not counts:
            sys.exit(f"{path} has no result")
        print(row + " | ".join(counts.groups()) + " |")
        for failure in re.finditer(r"^FAIL  (\S+).*\n((?:      \| .*\n)*)", text, re.M):
            # The first line that says anything is the engine's word for it.
            lines = [line.removeprefix("      | ") for line in failure[2].splitlines()]
            said = next((line for line in lines if re.search("rror|annot|not ", line)), lines[0] if lines else "")
            said = re.sub(r"\b[0-9a-f]{64}\b", "ID", re.sub(r"/\S*/engines-\w+", "", said))
            told.append((runtime, user, trial, failure[1], said.replace("|", "\\|")[:200]))
    print("\nWhat failed, and what was said:\n")
    seen = {}
    for runtime, user, trial, name, said in told:
        seen.setdefault((runtime, user, trial, said), []).append(name)
    for (runtime, user, trial, said), names in seen.items():
        print(f"- {TRIALS[trial]} over {runtime}, {user}: {', '.join(f'`{name}`' for name in names)}: {said}")
    if not seen:
        print("Nothing.")


main()
