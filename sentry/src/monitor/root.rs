//! `--fake-root`: which ids the guest is root over, and whether the rest of the policy goes with that.

use std::path::{Path, PathBuf};

use shim::failure::Failure;
use shim::plan::{Identity, Ranges, Root};
use syscalls::table::Feature;

use crate::policy::{FakeRoot, Policy};

/// Where distributions have them. Not those of the user's `PATH`: they must be the host's.
const PLACES: [&str; 5] = ["/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin", "/run/wrappers/bin"];
const INSTEAD: &str = "or choose --fake-root=pretend, which needs no ids";

/// Decides how the guest is root.
pub fn arrange(policy: &Policy, identity: &Identity, features: &[Feature]) -> Result<Root, Failure> {
    match policy.fake_root {
        FakeRoot::Off => Ok(Root::No),
        FakeRoot::Pretend => Ok(Root::Pretended),
        FakeRoot::Range => {
            if let Some(what) = in_the_way(features) {
                let failure = Failure::check_text(format!("--fake-root=range leaves paths to the kernel, and {what}"));
                return Err(failure.remedy("leave that out, or choose --fake-root=pretend"));
            }
            if identity.by_root {
                let failure =
                    Failure::check_text("--fake-root=range is for ordinary users, who have ranges of their own");
                return Err(failure.remedy("start sentry as one, or choose --fake-root=pretend"));
            }
            ranges(identity.host_uid).map(Root::Mapped)
        }
    }
}

/// What of the policy the sentry would have to do with its own rights, which are not those of the caller.
fn in_the_way(features: &[Feature]) -> Option<&'static str> {
    features.iter().find_map(|feature| match feature {
        Feature::PathCalls => {
            Some("a rule about a pattern, a virtual file, --audit, --interpose full or --userns emulate needs them")
        }
        Feature::PathRules | Feature::HiddenNames => Some("a rule about a pattern needs them"),
        Feature::ProtectedNames => {
            Some("a name that must not be created (a protected one, or one of --deny) needs them")
        }
        Feature::AnchoredNames => Some("a rule about a place inside a --write directory needs them"),
        Feature::Copies => Some("copy-on-write directories need them"),
        Feature::TracePaths => Some("--trace denied needs them"),
        Feature::Mounts => Some("--allow mount needs them"),
        Feature::VirtualClock => Some("--clock is for programs of one user"),
        _ => None,
    })
}

/// The ranges of the user `uid` and the programs that map them, or what is missing.
pub fn ranges(uid: u32) -> Result<Ranges, Failure> {
    let program = |name: &str| -> Result<PathBuf, Failure> {
        let found = PLACES.iter().map(|place| Path::new(place).join(name)).find(|path| path.is_file());
        let missing = || Failure::check_text(format!("--fake-root=range needs {name}, which this host has not"));
        found.ok_or_else(|| missing().remedy(format!("install the package uidmap (or shadow-utils), {INSTEAD}")))
    };
    let (newuidmap, newgidmap) = (program("newuidmap")?, program("newgidmap")?);
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = name_of(uid, &users);
    let range = |file: &str, option: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        first_of(&text, uid, name).ok_or_else(|| {
            let who = name.map_or_else(|| uid.to_string(), str::to_owned);
            let failure = Failure::check_text(format!("{file} has no {} ids for {who}", Ranges::IDS));
            failure.remedy(format!("as root: usermod {option} FIRST-LAST {who}, {INSTEAD}"))
        })
    };
    let users = range("/etc/subuid", "--add-subuids")?;
    let groups = range("/etc/subgid", "--add-subgids")?;
    Ok(Ranges { users, groups, newuidmap, newgidmap })
}

/// The login name of `uid` in the text of `/etc/passwd`, without a name service.
fn name_of(uid: u32, passwd: &str) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

/// The first id of a range that is large enough and belongs to the user, by name or number: subuid(5).
fn first_of(text: &str, uid: u32, name: Option<&str>) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        (name == Some(owner) || owner.parse() == Ok(uid)).then_some(())?;
        let (first, count) = (fields.next()?.parse::<u32>().ok()?, fields.next()?.parse::<u32>().ok()?);
        // Whatever that file says: root's ids are nobody's to have.
        (first > 0 && count >= Ranges::IDS && first.checked_add(Ranges::IDS).is_some()).then_some(first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_found_by_name_or_number() {
        let text = "# comment\nann:100000:65536\nbob:200000:65535\n1002:300000:70000\nbob:400000:65536\nann:x:y\neve:0:65536\n";
        assert_eq!(first_of(text, 1000, Some("ann")), Some(100_000));
        assert_eq!(first_of(text, 1001, Some("bob")), Some(400_000));
        assert_eq!(first_of(text, 1002, Some("cid")), Some(300_000));
        assert_eq!(first_of(text, 1002, None), Some(300_000));
        assert_eq!(first_of(text, 1003, Some("eve")), None);
        assert_eq!(first_of(text, 1004, None), None);
        assert_eq!(first_of("ann:4294967290:65536\n", 1000, Some("ann")), None);
    }

    #[test]
    fn a_name_is_found_without_a_name_service() {
        let passwd = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(name_of(1000, passwd), Some("ann"));
        assert_eq!(name_of(1, passwd), None);
    }

    #[test]
    fn what_would_act_with_other_rights_is_refused() {
        assert_eq!(in_the_way(&[Feature::RealIds, Feature::HostNetwork, Feature::SocketGrants]), None);
        for feature in [Feature::PathCalls, Feature::Copies, Feature::AnchoredNames, Feature::ProtectedNames] {
            assert!(in_the_way(&[Feature::RealIds, feature]).is_some());
        }
    }
}
