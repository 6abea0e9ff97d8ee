//! What of a policy can be held without namespaces and without a supervisor, and what cannot.
//!
//! Landlock adds up rights along a path, so a rule can give more beneath a grant and never less. Each field of a policy is
//! looked at here by name: a new one does not compile before somebody has decided about it.

use std::path::PathBuf;

use shim::confine::Rights;
use shim::failure::Failure;
use syscalls::table::Surface;

use crate::monitor::system;
use crate::policy::clock::Clock;
use crate::policy::view::{self, Entry, Facts, SYSTEM, Source};
use crate::policy::{Access, Interpose, Limits, Mechanism, Net, Policy, ProcFiles, Userns};

/// A path that the guest may use.
#[derive(Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Which.
    pub path: PathBuf,
    /// How.
    pub rights: Rights,
    /// Left out if it is not there.
    pub optional: bool,
    /// Who asked for it.
    pub option: String,
}

/// A policy, made smaller.
#[derive(Debug)]
pub struct Shrunk {
    /// Everything that may be used.
    pub allowed: Vec<Allowed>,
    /// Where the program begins; `None`: in its private directory.
    pub workdir: Option<PathBuf>,
    /// What is weaker or missing, for the user.
    pub lost: Vec<String>,
}

/// Shrinks `policy`. What it asks for and cannot be held is an error, unless the user accepted that beforehand.
pub fn shrink(policy: &Policy, facts: &Facts) -> Result<Shrunk, Failure> {
    let view = view::arrange(policy, facts).map_err(|error| Failure::check_text(error.to_string()))?;
    let mut shrinking = Shrinking { lost: always(policy), impossible: Vec::new() };
    shrinking.options(policy);
    let mut allowed = standard(policy);
    for entry in &view.entries {
        allowed.extend(shrinking.entry(policy, facts, &view.entries, entry));
    }
    if !shrinking.impossible.is_empty() && !policy.allow_degraded {
        let list = shrinking.impossible.join(", ");
        return Err(Failure::check_text(format!("--nested cannot hold {list}: a sandbox is around this one already"))
            .remedy("leave that out, start sentry outside of that sandbox, or go on without it by --allow-degraded"));
    }
    shrinking.lost.extend(shrinking.impossible);
    let workdir = Some(view.workdir).filter(|workdir| workdir != facts.guest_home());
    Ok(Shrunk { allowed, workdir, lost: shrinking.lost })
}

struct Shrinking {
    lost: Vec<String>,
    impossible: Vec<String>,
}

/// What is never had.
fn always(policy: &Policy) -> Vec<String> {
    let mut lost = vec![
        "namespaces: it sees the processes and the names of files of the sandbox around it, and shares its System V IPC \
         and message queues"
            .to_owned(),
        "a supervisor: what only the sentry could answer is refused, denials are not told, sockets in granted \
         directories can be connected to"
            .to_owned(),
        "a hold on modes, owners, times and attributes of files: Landlock knows nothing of them".to_owned(),
        "a private /tmp, /dev/shm and /dev/pts: TMPDIR and HOME name a new directory, and these are refused".to_owned(),
    ];
    match policy.net {
        Net::None => lost.push("a loopback interface of its own: there are no sockets but local ones".to_owned()),
        Net::All => lost.push("a network of its own (--net all): it has that of the sandbox around it".to_owned()),
    }
    lost
}

impl Shrinking {
    /// What is not about files in the view.
    fn options(&mut self, policy: &Policy) {
        let Policy {
            command: _,
            profile: _,
            surface,
            root,
            system: _,
            grants: _,
            cwd: _,
            scratch: _,
            hide: _,
            deny: _,
            protect: _,
            made: _,
            patterns,
            workdir: _,
            environment: _,
            net: _,
            hostname,
            kernel,
            limits: Limits { memory, pids, cpus: _, timeout: _, cpu_time, disk, max_file: _ },
            cow_store: _,
            resume,
            fake_root,
            userns,
            bare_proc,
            proc,
            tracing_inside: _,
            seccomp: _,
            interpose,
            platform,
            audit,
            nested: _,
            clock,
            allow,
            allow_degraded: _,
            trace_denied,
            quiet: _,
            json: _,
            meta: _,
        } = policy;
        let asked = [
            (root.is_some(), "--root"),
            (*clock != Clock::Hosts, "--clock"),
            (!allow.is_empty(), "--allow mount"),
            (resume.is_some(), "--resume"),
            (fake_root.is_on(), "--fake-root"),
            (*userns == Userns::Emulate, "--userns emulate"),
            (hostname != "sandbox", "--hostname"),
            (kernel.is_some(), "--uname"),
            (disk.is_some(), "--disk"),
            (*interpose == Interpose::Full, "--interpose full"),
            (*platform == Mechanism::Ptrace, "--platform ptrace"),
            (*proc == ProcFiles::Live, "--proc-files live"),
            (audit.is_some(), "--audit"),
            (*trace_denied, "--trace denied"),
        ];
        self.impossible.extend(asked.iter().filter(|(asked, _)| *asked).map(|(_, option)| (*option).to_owned()));
        self.impossible.extend(patterns.iter().map(|rule| rule.text.clone()));
        let weaker = [
            (memory.is_some(), "a sum for --memory: it holds each process by itself"),
            (cpu_time.is_some(), "a sum for --cpu-time: it holds each process by itself"),
            (pids.is_some(), "a count of its own for --pids: the sandbox around it counts as well"),
            (*bare_proc, "a /proc of processes only: all of /proc can be read"),
            (*surface == Surface::Judge, "another sandbox within: the surface has no Landlock"),
        ];
        self.lost.extend(weaker.iter().filter(|(weaker, _)| *weaker).map(|(_, what)| (*what).to_owned()));
    }

    /// One name of the view.
    fn entry(&mut self, policy: &Policy, facts: &Facts, entries: &[Entry], entry: &Entry) -> Option<Allowed> {
        let option = entry.option();
        let above = above(entries, entry);
        match &entry.source {
            Source::Host { path, access, optional } => {
                if *path != entry.inside {
                    self.impossible.push(option);
                    return None;
                }
                let granted =
                    |access: Access| policy.grants.iter().any(|one| one.inside == *path && one.access == access);
                let rights = match access {
                    Access::Read => Rights::Read,
                    Access::Write => Rights::Change,
                    Access::Cow => {
                        if *path == facts.cwd && !granted(Access::Cow) {
                            let what = "a copy of the current directory: it can be read; --write . lets it be changed";
                            self.lost.push(what.to_owned());
                        } else {
                            self.impossible.push(option.clone());
                        }
                        Rights::Read
                    }
                };
                // Rights add up along a path.
                if *access != Access::Write && above == Some(Access::Write) {
                    self.impossible.push(format!("{option} in a --write directory"));
                }
                Some(Allowed { path: path.clone(), rights, optional: *optional, option })
            }
            Source::Private { .. } => {
                if policy.scratch.iter().any(|scratch| scratch.inside == entry.inside) {
                    self.impossible.push(option);
                }
                None
            }
            Source::Kept { grant, name } => {
                if grant.join(name).symlink_metadata().is_ok() {
                    self.lost.push(format!("protection of {} in a --write directory", grant.join(name).display()));
                }
                None
            }
            Source::Made(_) => {
                self.impossible.push(option);
                None
            }
            // What is in no grant is out of reach anyway, and what does not exist is not made where nothing may be made.
            Source::Denied | Source::Hidden => {
                let exists = entry.inside.symlink_metadata().is_ok();
                let system = SYSTEM.iter().any(|system| entry.inside.starts_with(system));
                if (system && exists) || above == Some(Access::Write) || (above.is_some() && exists) {
                    self.impossible.push(option);
                }
                None
            }
        }
    }
}

/// The access of the nearest grant that `entry` lies in, where copies count as read: that is what becomes of them.
fn above(entries: &[Entry], entry: &Entry) -> Option<Access> {
    let above = entries.iter().filter(|other| entry.inside.starts_with(&other.inside) && entry.inside != other.inside);
    let grants = above.filter_map(|other| match &other.source {
        Source::Host { access: Access::Write, .. } => Some(Access::Write),
        Source::Host { .. } => Some(Access::Read),
        _ => None,
    });
    grants.max()
}

/// What every program needs.
fn standard(policy: &Policy) -> Vec<Allowed> {
    let allowed = |path: String, rights| {
        let option = "the default view".to_owned();
        Allowed { path: path.into(), rights, optional: true, option }
    };
    let system = SYSTEM.iter().filter(|_| policy.system).filter(|path| **path != "/etc").map(|path| (*path).to_owned());
    let settings = system::settings().map(|name| format!("/etc/{name}"));
    let facts = ["/proc", "/sys/devices/system/cpu"].map(str::to_owned);
    let devices = system::DEVICES.iter().map(|(name, ..)| format!("/dev/{name}"));
    let readable = system.chain(settings).chain(facts).map(|path| allowed(path, Rights::Read));
    readable.chain(devices.map(|path| allowed(path, Rights::Device))).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::policy::Grant;

    fn facts() -> Facts {
        Facts { cwd: "/src/dir".into(), home: "/home/me".into(), real_home: "/home/me".into() }
    }

    fn policy() -> Policy {
        Policy { cwd: Some(Access::Cow), ..Policy::bare(vec!["true".into()]) }
    }

    fn grant(path: &str, access: Access) -> Grant {
        Grant { host: path.into(), inside: path.into(), access, optional: false }
    }

    #[test]
    fn the_current_directory_is_read_where_it_would_be_copied() {
        let shrunk = shrink(&policy(), &facts()).unwrap();
        let here = shrunk.allowed.iter().find(|allowed| allowed.path == Path::new("/src/dir")).unwrap();
        assert_eq!(here.rights, Rights::Read);
        assert!(shrunk.lost.iter().any(|lost| lost.contains("--write .")), "{:?}", shrunk.lost);
        assert_eq!(shrunk.workdir, Some("/src/dir".into()));
    }

    #[test]
    fn what_takes_away_within_a_grant_is_refused() {
        type Ask = fn(&mut Policy);
        let asked: [(&str, Ask); 10] = [
            ("--cow /data", |policy| policy.grants.push(grant("/data", Access::Cow))),
            ("--hide /usr/bin", |policy| policy.hide.push("/usr/bin".into())),
            ("--deny /src/dir/x", |policy| {
                policy.grants.push(grant("/src/dir", Access::Write));
                policy.deny.push("/src/dir/x".into());
            }),
            ("--read /data/x in a --write", |policy| {
                policy.grants.extend([grant("/data", Access::Write), grant("/data/x", Access::Read)]);
            }),
            ("--tmpfs /scratch", |policy| {
                policy.scratch.push(crate::policy::Scratch { inside: "/scratch".into(), size: None });
            }),
            ("--volume /data:/elsewhere", |policy| {
                policy.grants.push(Grant { inside: "/elsewhere".into(), ..grant("/data", Access::Write) });
            }),
            ("--uname", |policy| policy.kernel = crate::policy::kernel::parse("6.1").ok()),
            ("--disk", |policy| policy.limits.disk = Some(1)),
            ("--interpose full", |policy| policy.interpose = Interpose::Full),
            ("--platform ptrace", |policy| policy.platform = Mechanism::Ptrace),
        ];
        for (expected, ask) in asked {
            let mut policy = policy();
            ask(&mut policy);
            let failure = shrink(&policy, &facts()).unwrap_err().to_string();
            assert!(failure.contains(expected) && failure.contains("--allow-degraded"), "{expected}: {failure}");
            policy.allow_degraded = true;
            let shrunk = shrink(&policy, &facts()).unwrap();
            assert!(shrunk.lost.iter().any(|lost| lost.contains(expected)), "{expected}: {:?}", shrunk.lost);
        }
    }

    #[test]
    fn what_is_out_of_reach_anyway_may_be_hidden() {
        let mut policy = policy();
        policy.hide.push("/somewhere/else".into());
        policy.grants.push(grant("/data", Access::Read));
        policy.grants.push(grant("/data/out", Access::Write));
        assert!(shrink(&policy, &facts()).is_ok());
    }
}
