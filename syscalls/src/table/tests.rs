use super::*;
use crate::dispatch::Handler;

fn routes_of(row: &Syscall) -> impl Iterator<Item = &Route> {
    std::iter::once(&row.route).chain(row.special.iter().map(|(_, route)| route))
}

#[test]
fn no_number_lacks_a_row_and_no_row_a_number() {
    for arch in Arch::ALL {
        for number in 0..=arch.last_number() {
            if let Some(name) = arch.name(number) {
                assert!(find(name).is_some(), "{name} ({number} on {arch:?}) has no row");
            }
        }
    }
    for row in all() {
        let known = Arch::ALL.iter().any(|arch| row.number(*arch).is_some());
        assert!(known, "{} has a row but no number anywhere", row.name);
    }
}

#[test]
fn names_stand_once_and_say_something() {
    for pair in all().windows(2) {
        assert!(pair[0].name < pair[1].name, "{} has two rows", pair[1].name);
    }
    for row in all() {
        assert!(!row.summary().is_empty(), "{} says nothing", row.name);
        assert!(row.parameters.len() <= 6, "{} has too many parameters", row.name);
        assert_eq!(row.declared().count(), row.parameters.len(), "{}({})", row.name, row.signature);
    }
}

#[test]
fn a_notification_has_a_handler_and_a_handler_its_notification() {
    for row in all() {
        for route in routes_of(row) {
            let notified =
                route.otherwise == Verdict::Notify || route.checks.iter().any(|check| check.then == Verdict::Notify);
            assert_eq!(notified, route.handler.is_some(), "{}: {route:?}", row.name);
        }
    }
}

#[test]
fn checks_are_about_declared_parameters() {
    for row in all() {
        for route in routes_of(row) {
            for test in route.checks.iter().flat_map(|check| check.all) {
                assert!(test.arg < row.parameters.len(), "{} checks an argument it does not declare", row.name);
            }
        }
    }
}

/// Rule 2: what may be continued is a short list, each member of which ring 1 makes harmless.
#[test]
fn only_these_calls_are_ever_observed() {
    const OBSERVED: [&str; 21] = [
        "access",
        // Its argument is a register.
        "arch_prctl",
        "chdir",
        "connect",
        "execve",
        "execveat",
        "faccessat",
        "faccessat2",
        "lstat",
        "newfstatat",
        "open",
        "openat",
        "readlink",
        "readlinkat",
        "sendto",
        "stat",
        "statx",
        "chroot",
        "getxattr",
        "statfs",
        // When a timer of its own rings concerns only the program.
        "timer_settime",
    ];
    for row in all() {
        for route in routes_of(row) {
            if matches!(route.handler, Some(Handler::Observe(_) | Handler::Permit(_))) {
                assert!(OBSERVED.contains(&row.name), "{} is observed", row.name);
            }
        }
    }
}

/// A container's files, ids and network are the kernel's to judge, at no cost; what reaches for the host is not.
#[test]
fn what_a_container_does_all_day_costs_nothing() {
    let route = |name: &str| find(name).unwrap().route_with(Surface::Compat, &[Feature::Container, Feature::Mounts]);
    for name in [
        "open",
        "openat",
        "openat2",
        "creat",
        "mkdir",
        "chmod",
        "fchmodat2",
        "chown",
        "connect",
        "sendto",
        "chroot",
        "setuid",
        "setgroups",
        "capset",
        "rename",
        "link",
        "execve",
        "clock_gettime",
        "fork",
        "wait4",
    ] {
        let route = route(name);
        assert!(route.handler.is_none() && route.checks.is_empty() && route.otherwise == Verdict::Allow, "{name}");
    }
    for name in ["mount", "umount2", "pivot_root", "setns", "clock_settime", "settimeofday", "adjtimex", "sethostname"]
    {
        assert_eq!(route(name).otherwise, Verdict::Notify, "{name}");
    }
    for name in [
        "bpf",
        "keyctl",
        "add_key",
        "request_key",
        "io_uring_setup",
        "perf_event_open",
        "userfaultfd",
        "kexec_load",
        "init_module",
        "finit_module",
        "delete_module",
        "reboot",
        "swapon",
        "quotactl",
        "open_by_handle_at",
        "acct",
        "fsopen",
        "fsmount",
        "move_mount",
        "open_tree",
        "mount_setattr",
        "clone3",
        "nfsservctl",
        "syslog",
    ] {
        let route = route(name);
        assert!(route.handler.is_none() && matches!(route.otherwise, Verdict::Fail(_)), "{name}");
    }
    let own_name = find("sethostname").unwrap().route_with(Surface::Compat, &[Feature::Container, Feature::OwnName]);
    assert_eq!(own_name.otherwise, Verdict::Allow);
}

/// Registers are rewritten only where a tracer answers: a listener has no such answer.
#[test]
fn only_a_tracer_rewrites() {
    for row in all() {
        for (feature, route) in std::iter::once((None, &row.route))
            .chain(row.special.iter().map(|(feature, route)| (Some(*feature), route)))
        {
            if matches!(route.handler, Some(Handler::Rewrite(_))) {
                assert_eq!((row.name, feature), ("clone", Some(Feature::Traced)));
            }
        }
    }
}

/// Rule 2 again: once names are protected, no call that can open or make a name is continued.
#[test]
fn with_protected_names_no_open_is_continued() {
    let features = [Feature::ProtectedNames, Feature::TracePaths];
    for name in ["open", "openat", "creat", "openat2", "rename", "renameat2", "link", "mkdir", "symlink", "mknod"] {
        let row = find(name).unwrap();
        let route = row.route_with(Surface::Compat, &features);
        assert!(!matches!(route.handler, Some(Handler::Observe(_) | Handler::Permit(_))), "{name}");
    }
}

/// With `--interpose full`, or once a rule is about a pattern: what takes a path is answered by the sentry or refused, but
/// for the walks that the page tells of. In whatever order the features stand, the strictest wins.
#[test]
fn every_path_is_interposed_but_these() {
    const WALKS: [&str; 6] = ["chdir", "chroot", "execve", "execveat", "mq_open", "mq_unlink"];
    for features in [&[Feature::PathCalls][..], &Feature::ALL] {
        for row in all().iter().filter(|row| row.declared().any(|(_, kind)| kind == "PathPtr")) {
            let route = row.route_with(Surface::Compat, features);
            let answered = matches!(route.handler, Some(Handler::Emulate(_) | Handler::EmulateSlow(_)));
            let refused = route.handler.is_none() && matches!(route.otherwise, Verdict::Fail(_) | Verdict::Kill);
            assert!(answered || refused || WALKS.contains(&row.name), "{} with {features:?}", row.name);
        }
    }
}

#[test]
fn the_numbers_are_those_of_the_headers() {
    let path = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h";
    let Ok(header) = std::fs::read_to_string(path) else {
        eprintln!("SKIPPED: the_numbers_are_those_of_the_headers: {path} is not installed");
        return;
    };
    let mut compared = 0;
    for line in header.lines() {
        let Some((name, number)) = line.strip_prefix("#define __NR_").and_then(|line| line.split_once(' ')) else {
            continue;
        };
        assert_eq!(Arch::X86_64.number(name), number.trim().parse().ok(), "{name}");
        compared += 1;
    }
    assert!(compared > 300, "{compared}");
}

#[test]
fn the_numbers_of_this_machine_are_those_of_libc() {
    for (name, number) in [
        ("read", libc::SYS_read),
        ("openat", libc::SYS_openat),
        ("openat2", libc::SYS_openat2),
        ("clone3", libc::SYS_clone3),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("fchmodat2", libc::SYS_fchmodat2),
        ("mseal", libc::SYS_mseal),
    ] {
        assert_eq!(Arch::native().number(name), usize::try_from(number).ok(), "{name}");
    }
    assert_eq!(Arch::Aarch64.number("openat"), Some(56));
    assert_eq!(Arch::Aarch64.number("open"), None);
    assert_eq!(Arch::Aarch64.number("file_setattr"), Some(469));
    assert_eq!(Arch::X86_64.number("file_setattr"), Some(469));
}
