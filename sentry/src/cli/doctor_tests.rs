//! Hosts that nobody has at hand, and what the doctor must say of them.

use super::*;

fn find(host: &Host, about: &str) -> Check {
    checks(host).into_iter().find(|check| check.about == about).unwrap()
}

fn remedy(host: &Host, about: &str) -> String {
    find(host, about).remedy.join("\n")
}

#[test]
fn a_fine_host_needs_no_remedy() {
    let checks = checks(&Host::fine());
    assert!(checks.iter().all(|check| check.state == State::Ok && check.remedy.is_empty()), "{checks:?}");
    assert!(page(&checks).ends_with("with every protection.\n"));
}

#[test]
fn ubuntu_restricts_user_namespaces_by_apparmor() {
    let host = Host { user_namespaces: Err(Errno::EACCES), apparmor_restricts: Some(1), ..Host::fine() };
    let remedy = remedy(&host, "user namespaces");
    assert!(remedy.contains("/etc/apparmor.d/sentry") && remedy.contains("\"/usr/local/bin/sentry\""), "{remedy}");
    assert!(remedy.contains("userns,") && remedy.contains("apparmor_parser -r"), "{remedy}");
    assert!(remedy.contains("sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"), "{remedy}");
    assert!(!works(&checks(&host)));
    assert!(page(&checks(&host)).contains("\nmissing  user namespaces"));

    // With a profile in place the rule is no obstacle.
    let allowed = Host { user_namespaces: Ok(()), ..host };
    assert!(works(&checks(&allowed)));
}

#[test]
fn each_switch_that_forbids_user_namespaces_is_named() {
    let forbidden = Host { user_namespaces: Err(Errno::EPERM), ..Host::fine() };
    let none = Host { max_user_namespaces: Some(0), ..forbidden.clone() };
    assert!(remedy(&none, "user namespaces").contains("user.max_user_namespaces"));
    let debian = Host { unprivileged_userns_clone: Some(0), ..forbidden.clone() };
    assert!(remedy(&debian, "user namespaces").contains("kernel.unprivileged_userns_clone=1"));
    let boxed = Host { filtered: true, ..forbidden.clone() };
    assert!(remedy(&boxed, "user namespaces").contains("outside"));
    assert!(remedy(&forbidden, "user namespaces").contains("ask"));
}

#[test]
fn in_docker_the_options_of_docker_help() {
    let host = Host {
        container: Some("docker"),
        filtered: true,
        user_namespaces: Err(Errno::EPERM),
        proc: Err(Errno::EPERM),
        overlay: Err(Errno::EPERM),
        time_namespace: Err(Errno::EPERM),
        cgroups: Cgroups::Unified { controllers: vec!["memory".into()], usable: false },
        // The host of the container is an Ubuntu: the container is the nearer obstacle.
        apparmor_restricts: Some(1),
        ..Host::fine()
    };
    assert!(remedy(&host, "user namespaces").contains("docker run --security-opt seccomp=unconfined"));
    // One cause, one line: what could not be tried is not told as a second failure.
    let missing = checks(&host).into_iter().filter(|check| check.state == State::Missing).count();
    assert_eq!(missing, 1);

    let masked = Host { user_namespaces: Ok(()), ..host };
    assert_eq!(find(&masked, "own /proc").state, State::Missing);
    assert!(remedy(&masked, "own /proc").contains("systempaths=unconfined"));
    let podman = Host { container: Some("podman"), ..masked };
    assert!(remedy(&podman, "own /proc").contains("unmask=ALL"));
}

#[test]
fn landlock_may_be_old_off_or_absent() {
    let host = |landlock| Host { landlock, ..Host::fine() };
    for (landlock, expected) in
        [(Ok(4), "6.12"), (Err(Errno::EOPNOTSUPP), "lsm=landlock"), (Err(Errno::ENOSYS), "6.12")]
    {
        let host = host(landlock);
        assert!(!works(&checks(&host)));
        let remedy = remedy(&host, "Landlock scopes");
        assert!(remedy.contains(expected) && remedy.contains("--allow-degraded"), "{remedy}");
    }
    assert!(works(&checks(&host(Ok(9)))));
}

#[test]
fn without_delegation_limits_are_weaker_but_there() {
    let controllers: Vec<String> = ["memory", "pids"].map(Into::into).to_vec();
    let undelegated = Cgroups::Unified { controllers: controllers.clone(), usable: false };
    let partly = Cgroups::Unified { controllers, usable: true };
    for (cgroups, expected) in [
        (undelegated, "delegated"),
        (partly, "lacks cpu"),
        (Cgroups::None, "mounted"),
        (Cgroups::Legacy { controllers: vec![] }, "version 1"),
    ] {
        let host = Host { cgroups, ..Host::fine() };
        let check = find(&host, "limits");
        assert!(check.state == State::Warn && check.found.contains(expected), "{check:?}");
        assert!(check.found.contains("rlimit") && works(&checks(&host)), "{check:?}");
    }
    let delegable = Host { cgroups: Cgroups::Unified { controllers: vec![], usable: false }, ..Host::fine() };
    assert!(remedy(&delegable, "limits").contains("Delegate=yes"));
}

#[test]
fn an_old_kernel_cannot_hold_notifications() {
    let host = Host {
        release: "5.15.0-91-generic".to_owned(),
        wait_killable: Err(Errno::EINVAL),
        landlock: Ok(1),
        ..Host::fine()
    };
    assert_eq!(find(&host, "kernel").state, State::Missing);
    assert!(find(&host, "system call listener").found.contains("WAIT_KILLABLE_RECV"));
    let nested = Host { listener: Err(Errno::EBUSY), wait_killable: Err(Errno::EBUSY), ..Host::fine() };
    let nested = find(&nested, "system call listener");
    assert!(nested.found.contains("another sandbox"));
    assert!(nested.remedy.iter().any(|line| line.contains("--platform ptrace")), "{nested:?}");
}

#[test]
fn copy_on_write_can_be_done_without() {
    let host = Host { overlay: Err(Errno::ENODEV), ..Host::fine() };
    assert!(works(&checks(&host)));
    assert!(remedy(&host, "copy-on-write").contains("modprobe overlay"));
    assert!(remedy(&host, "copy-on-write").contains("--write ."));
}

#[test]
fn borrowed_rights_are_refused() {
    let host = Host { privileged_start: true, ..Host::fine() };
    assert!(!works(&checks(&host)));
    assert!(remedy(&host, "privileges").contains("chmod ug-s /usr/local/bin/sentry"));
}

#[test]
fn within_a_sandbox_there_is_less_to_be_had() {
    let within = Host {
        filtered: true,
        user_namespaces: Err(Errno::EPERM),
        listener: Err(Errno::EBUSY),
        wait_killable: Err(Errno::EBUSY),
        ..Host::fine()
    };
    assert!(find(&within, "sandbox").found.contains("another sandbox"));
    for about in ["user namespaces", "system call listener"] {
        assert!(remedy(&within, about).contains("sentry run --nested"), "{about}");
    }
    let ours = Host { marked: true, ..within };
    assert!(find(&ours, "sandbox").found.contains("a sandbox of sentry"));
    // A mark alone is only a file.
    let faked = Host { marked: true, ..Host::fine() };
    assert!(checks(&faked).iter().all(|check| check.about != "sandbox"));
}

#[test]
fn a_host_without_a_range_of_ids_is_as_good() {
    let what = ("there is no newuidmap".to_owned(), "install uidmap".to_owned());
    let host = Host { id_range: Some(Err(what)), ..Host::fine() };
    let check = find(&host, "id range");
    assert_eq!((check.state, check.remedy.join("")), (State::Ok, "install uidmap".to_owned()));
    assert!(works(&checks(&host)));
    assert!(!checks(&Host { id_range: None, ..host }).iter().any(|check| check.about == "id range"));
}
