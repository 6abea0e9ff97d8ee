//! Rules and facts, and the view that they must make.

use std::time::{Duration, Instant};

use super::*;
use crate::policy::{Grant, Scratch};

fn facts(cwd: &str) -> Facts {
    Facts { cwd: cwd.into(), home: "/home/me".into(), real_home: "/data/me".into() }
}

fn policy() -> Policy {
    Policy { cwd: Some(Access::Cow), ..Policy::bare(vec!["true".into()]) }
}

fn grant(path: &str, access: Access) -> Grant {
    Grant { host: path.into(), inside: path.into(), access, optional: false }
}

/// The options that would make the same view, private places of every sandbox left out.
fn options(view: &View) -> Vec<String> {
    let usual = ["--tmpfs /home/me", "--tmpfs /tmp", "--tmpfs /var/tmp"];
    view.entries.iter().map(Entry::option).filter(|option| !usual.contains(&option.as_str())).collect()
}

#[test]
fn the_current_directory_is_copy_on_write_and_the_home_private() {
    let view = arrange(&policy(), &facts("/home/me/project")).unwrap();
    let all: Vec<String> = view.entries.iter().map(Entry::option).collect();
    assert_eq!(all, ["--tmpfs /home/me", "--cow /home/me/project", "--tmpfs /tmp", "--tmpfs /var/tmp"]);
    assert_eq!(view.workdir, Path::new("/home/me/project"));
    assert!(view.notes.is_empty());
}

#[test]
fn a_tree_of_its_own_may_be_writable_as_a_whole() {
    let whole = grant("/", Access::Write);
    let of = |root: Option<&str>, grants: &[Grant]| {
        let policy = Policy { root: root.map(Into::into), grants: grants.to_vec(), ..policy() };
        (policy.root_writable(), arrange(&policy, &facts("/home/me/project")).map(|view| options(&view)))
    };
    let (writable, view) = of(Some("/no/such/tree"), std::slice::from_ref(&whole));
    assert!(writable);
    assert_eq!(view.unwrap(), [""; 0], "neither is there a place for the current directory");
    assert!(!of(Some("/no/such/tree"), &[]).0);
    let elsewhere = Grant { host: "/srv".into(), ..whole.clone() };
    for (root, grant) in [
        (None, &whole),
        (Some("/"), &whole),
        (Some("/no/such/tree"), &elsewhere),
        (Some("/no/such/tree"), &grant("/", Access::Cow)),
    ] {
        let (writable, view) = of(root, std::slice::from_ref(grant));
        assert!(!writable && view.is_err(), "{root:?} {grant:?}");
    }
}

#[test]
fn too_wide_a_current_directory_is_not_granted_and_that_is_said() {
    for cwd in ["/", "/home/me", "/data/me", "/home", "/data", "/tmp", "/var/tmp", "/etc", "/proc/1", "/sys", "/run"] {
        let view = arrange(&policy(), &facts(cwd)).unwrap();
        assert_eq!(options(&view), [""; 0], "{cwd}");
        assert_eq!(view.notes.len(), 1, "{cwd}");
    }
    assert!(arrange(&policy(), &facts("/home/me")).unwrap().notes[0].ends_with("choose --read . or --write ."));
    assert!(arrange(&policy(), &facts("/")).unwrap().notes[0].ends_with("choose --read PATH"));
    assert_eq!(arrange(&policy(), &facts("/data/me")).unwrap().workdir, Path::new("/home/me"));
    assert_eq!(arrange(&policy(), &facts("/")).unwrap().workdir, Path::new("/"));
}

#[test]
fn nothing_is_needed_in_a_system_directory() {
    let view = arrange(&policy(), &facts("/usr/share")).unwrap();
    assert_eq!((options(&view).len(), view.notes.len()), (0, 0));
    assert_eq!(view.workdir, Path::new("/usr/share"));
}

#[test]
fn a_project_in_a_temporary_directory_is_shown() {
    assert_eq!(options(&arrange(&policy(), &facts("/tmp/project")).unwrap()), ["--cow /tmp/project"]);
}

#[test]
fn a_grant_of_the_current_directory_or_of_what_is_above_it_decides() {
    for granted in ["/srv/p", "/srv"] {
        let policy = Policy { grants: vec![grant(granted, Access::Read)], ..policy() };
        let view = arrange(&policy, &facts("/srv/p")).unwrap();
        assert_eq!(options(&view), [format!("--read {granted}")]);
        assert_eq!(view.workdir, Path::new("/srv/p"));
    }
    let sibling = Policy { grants: vec![grant("/srv/p-evil", Access::Read)], ..policy() };
    assert_eq!(options(&arrange(&sibling, &facts("/srv/p")).unwrap()), ["--cow /srv/p", "--read /srv/p-evil"]);
    let hidden = Policy { hide: vec!["/srv".into()], ..policy() };
    let view = arrange(&hidden, &facts("/srv/p")).unwrap();
    assert_eq!((options(&view), view.workdir), (vec!["--hide /srv".to_owned()], "/home/me".into()));
}

#[test]
fn order_does_not_matter_and_the_stronger_rule_wins() {
    let mut grants = vec![
        grant("/a", Access::Read),
        grant("/a", Access::Write),
        grant("/a", Access::Cow),
        grant("/b", Access::Cow),
        grant("/b", Access::Read),
        grant("/c", Access::Write),
    ];
    let expected = ["--write /a", "--cow /b", "--hide /c"];
    for _ in 0..grants.len() {
        grants.rotate_left(1);
        let policy = Policy { grants: grants.clone(), hide: vec!["/c".into()], cwd: None, ..policy() };
        assert_eq!(options(&arrange(&policy, &facts("/")).unwrap()), expected);
    }
}

#[test]
fn parents_come_first_by_component() {
    let grants = ["/a/b/c", "/a-z", "/a/b", "/a", "/a.b"].map(|path| grant(path, Access::Read)).to_vec();
    let view = arrange(&Policy { grants, cwd: None, ..policy() }, &facts("/")).unwrap();
    let place = |path: &str| view.entries.iter().position(|entry| entry.inside == Path::new(path)).unwrap();
    assert!(place("/a") < place("/a/b") && place("/a/b") < place("/a/b/c"));
}

#[test]
fn what_cannot_be_is_refused_with_a_remedy() {
    let volume = |host: &str, inside: &str| Grant { inside: inside.into(), ..grant(host, Access::Write) };
    let cases: Vec<(Policy, &str)> = vec![
        (Policy { grants: vec![grant("/", Access::Read)], ..policy() }, "--root /"),
        (Policy { grants: vec![grant("/proc/1", Access::Read)], ..policy() }, "cannot be granted"),
        (Policy { grants: vec![volume("/proc/self/fd/3", "/x")], ..policy() }, "outside of the sandbox"),
        (Policy { grants: vec![grant("/dev/kvm", Access::Read)], ..policy() }, "no devices"),
        (Policy { grants: vec![volume("/srv", "/dev/x")], ..policy() }, "its own /dev"),
        (Policy { grants: vec![grant("/sys/fs", Access::Write)], ..policy() }, "--read /sys/fs"),
        (Policy { deny: vec!["/dev/null".into()], ..policy() }, "its own /dev"),
        (Policy { hide: vec!["/proc/cpuinfo".into()], ..policy() }, "its own /proc"),
        (Policy { grants: vec![volume("/a", "/x"), volume("/b", "/x")], ..policy() }, "both /a and /b"),
        (
            Policy {
                grants: vec![volume("/a", "/x")],
                scratch: vec![Scratch { inside: "/x".into(), size: None }],
                ..policy()
            },
            "private directory",
        ),
    ];
    for (policy, expected) in cases {
        let error = arrange(&policy, &facts("/srv/p")).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("; "), "{error}");
    }
    let readable = Policy { grants: vec![grant("/sys/class", Access::Read)], ..policy() };
    assert!(arrange(&readable, &facts("/srv/p")).is_ok());
}

#[test]
fn a_service_user_gets_another_home() {
    for home in ["/", "/bin", "/usr/games", "/dev/null", "/proc"] {
        let facts = Facts { cwd: "/srv".into(), home: home.into(), real_home: home.into() };
        assert_eq!(facts.guest_home(), Path::new("/home/guest"), "{home}");
    }
}

#[test]
fn ten_thousand_grants_are_arranged_at_once() {
    let grants: Vec<Grant> = (0..10_000).map(|n| grant(&format!("/srv/{}/{n}", n % 7), Access::Read)).collect();
    let started = Instant::now();
    let view = arrange(&Policy { grants, ..policy() }, &facts("/srv/p")).unwrap();
    assert_eq!(view.entries.len(), 10_004);
    assert!(started.elapsed() < Duration::from_secs(2), "took {:?}", started.elapsed());
}
