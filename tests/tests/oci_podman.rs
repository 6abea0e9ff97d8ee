//! Podman over the container runtime, as the ordinary user: a short selection of `tests/oci/podman.sh`.
//!
//! Each check of that script is about any runtime and was validated on runc and crun. The whole list, root, containerd and
//! docker are for `make hold-oci`.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use sentry_tests::{has, has_id_range, site, skip};

/// Lets the script make these checks, each of which must pass or say what the host lacks.
fn podman(group: &str, checks: &str) {
    for tool in ["podman", "conmon", "busybox", "tmux"] {
        if !has(tool) {
            skip!("{tool} is not installed");
        }
    }
    if !has_id_range() {
        skip!("the ordinary user has no range of ids");
    }
    // Engines go by the runtime's name.
    let named = site().sentry.with_file_name(format!("{group}-{}", std::process::id()));
    std::fs::create_dir_all(&named).expect("a directory beside the product");
    let runtime = named.join("sentry-oci");
    symlink(&site().sentry, &runtime).expect("a link");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("oci/podman.sh");
    let output = Command::new("timeout")
        .args(["--kill-after=10", "150"])
        .arg(script)
        .arg(&runtime)
        .args(["--only", checks])
        .stdin(Stdio::null())
        .output()
        .expect("the script");
    let said = String::from_utf8_lossy(&output.stdout);
    for line in said.lines().filter(|line| line.starts_with("SKIP")) {
        eprintln!("SKIPPED: {}: {line}", module_path!());
    }
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let passed = said.lines().filter(|line| line.starts_with("PASS") || line.starts_with("SKIP")).count();
    assert_eq!(passed, checks.split_whitespace().count(), "each check has a result: {said}");
}

#[test]
fn podman_sees_how_a_program_ended() {
    podman("ended", "run exit_code signal_code missing_program not_executable stdin kill stop wait_after_kill_of_init");
}

#[test]
fn podman_has_terminals_and_pipes() {
    podman("terminals", "run_tty exec_tty attach resize logs exec preserve_fds much_output");
}

#[test]
fn podman_has_files_and_rights() {
    podman(
        "files",
        "volume tmpfs read_only masked dev user keep_id cap_drop cap_add no_new_privileges seccomp profile ulimit",
    );
}

#[test]
fn podman_builds_and_shares() {
    podman(
        "builds",
        "build pod hooks healthcheck init pid_host top inspect no_runtime_dir left_overs mounts_inside makes_null own_clock policies",
    );
}
