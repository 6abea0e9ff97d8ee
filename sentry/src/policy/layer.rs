//! One layer of a policy: what a profile, a policy file or the command line says, and nothing else.
//!
//! A later layer wins over an earlier one wherever both speak of the same thing: a `--read` on the command line makes
//! visible what a profile hides. Within one layer order does not matter: hide beats deny, deny beats write, write beats
//! copy-on-write, copy-on-write beats read.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use hashbrown::HashSet;
use syscalls::pattern::{Pattern, is_pattern};
use syscalls::rules::KernelName;
use syscalls::table::Surface;

use super::clock::Clock;
use super::limits::LimitChanges;
use super::path::{absolute, check_bytes, shown};
use super::rule::{Kind, MadeFile, PatternRule, Subject, escaped, subject};
use super::{
    Ability, Access, CowStore, Environment, Error, FakeRoot, Grant, Interpose, Mechanism, Net, Policy, ProcFiles,
    Scratch, Userns,
};

/// Changes to a policy; what is `None` or empty stays as it was.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "each field is the field of the same name in `Policy`")]
pub struct Layer {
    pub surface: Option<Surface>,
    pub root: Option<PathBuf>,
    pub system: Option<bool>,
    pub grants: Vec<Grant>,
    pub cwd: Option<Option<Access>>,
    pub scratch: Vec<Scratch>,
    pub hide: Vec<PathBuf>,
    pub deny: Vec<PathBuf>,
    pub protect: Option<Vec<PathBuf>>,
    pub made: Vec<MadeFile>,
    pub patterns: Vec<PatternRule>,
    pub workdir: Option<PathBuf>,
    pub environment: Environment,
    pub net: Option<Net>,
    pub hostname: Option<String>,
    pub kernel: Option<KernelName>,
    pub clock: Option<Clock>,
    pub limits: LimitChanges,
    pub cow_store: Option<CowStore>,
    pub bare_proc: Option<bool>,
    pub proc: Option<ProcFiles>,
    pub tracing_inside: Option<bool>,
    pub seccomp: Option<PathBuf>,
    pub interpose: Option<Interpose>,
    pub platform: Option<Mechanism>,
    pub fake_root: Option<FakeRoot>,
    pub userns: Option<Userns>,
    pub nested: Option<bool>,
    pub allow: Vec<Ability>,
}

impl Layer {
    /// Lays this over `policy`.
    pub fn lay_over(self, policy: &mut Policy) {
        self.forget_what_is_said_again(policy);
        policy.grants.extend(self.grants);
        policy.scratch.extend(self.scratch);
        policy.hide.extend(self.hide);
        policy.deny.extend(self.deny);
        policy.made.extend(self.made);
        policy.patterns.extend(self.patterns);
        policy.allow.extend(self.allow);
        lay_environment(self.environment, &mut policy.environment);
        self.limits.lay_over(&mut policy.limits);

        replace(&mut policy.protect, self.protect);
        replace(&mut policy.interpose, self.interpose);
        replace(&mut policy.platform, self.platform);
        replace(&mut policy.fake_root, self.fake_root);
        replace(&mut policy.userns, self.userns);
        replace(&mut policy.nested, self.nested);
        replace(&mut policy.surface, self.surface);
        replace(&mut policy.system, self.system);
        replace(&mut policy.cwd, self.cwd);
        replace(&mut policy.net, self.net);
        replace(&mut policy.hostname, self.hostname);
        replace(&mut policy.kernel, self.kernel.map(Some));
        replace(&mut policy.clock, self.clock);
        replace(&mut policy.cow_store, self.cow_store);
        replace(&mut policy.bare_proc, self.bare_proc);
        replace(&mut policy.proc, self.proc);
        replace(&mut policy.tracing_inside, self.tracing_inside);
        replace(&mut policy.root, self.root.map(Some));
        replace(&mut policy.workdir, self.workdir.map(Some));
        replace(&mut policy.seccomp, self.seccomp.map(Some));
    }

    /// Adds a rule about the path or pattern `given`, which was written in the directory `base`.
    pub fn rule(&mut self, kind: Kind, base: &Path, home: &Path, given: &Path) -> Result<(), Error> {
        let access = match kind {
            Kind::Read => Some(Access::Read),
            Kind::Write => Some(Access::Write),
            Kind::Cow => Some(Access::Cow),
            Kind::Deny | Kind::Hide | Kind::Log => None,
        };
        if let Some(access) = access {
            check_bytes(given.as_os_str())?;
            let whole = given.strip_prefix("~").map_or_else(|_| absolute(base, given), |rest| home.join(rest));
            // A name with brackets that exists is that name, not a pattern.
            if !is_pattern(given.as_os_str()) || whole.symlink_metadata().is_ok() {
                self.grants.push(Grant::same(whole, access)?);
                return Ok(());
            }
            if kind == Kind::Cow {
                let message = format!("{} cannot be copy-on-write: it is a pattern", shown(given));
                return Err(Error::new(message, "name the directory itself"));
            }
        }
        match (kind, subject(base, home, given)?) {
            (_, Subject::Matching(pattern, anchored)) => {
                self.patterns.push(PatternRule::new(kind, given, pattern, anchored));
            }
            (Kind::Hide, Subject::Exact(path)) => self.hide.push(path),
            (Kind::Deny, Subject::Exact(path)) => self.deny.push(path),
            (_, Subject::Exact(path)) => {
                let pattern = Pattern::new(&escaped(&path)).map_err(|why| Error::new(why, "name one path"))?;
                self.patterns.push(PatternRule::new(kind, given, pattern, true));
            }
        }
        Ok(())
    }

    /// Takes out of `policy` every rule about a name of which this layer speaks as well.
    fn forget_what_is_said_again(&self, policy: &mut Policy) {
        let grants = self.grants.iter().map(|grant| grant.inside.as_path());
        let scratch = self.scratch.iter().map(|scratch| scratch.inside.as_path());
        let made = self.made.iter().map(|made| made.inside.as_path());
        let kept_away = self.hide.iter().chain(&self.deny).map(PathBuf::as_path);
        let named: HashSet<&Path> = grants.chain(scratch).chain(made).chain(kept_away).collect();
        policy.grants.retain(|grant| !named.contains(grant.inside.as_path()));
        policy.scratch.retain(|scratch| !named.contains(scratch.inside.as_path()));
        policy.hide.retain(|hidden| !named.contains(hidden.as_path()));
        policy.deny.retain(|denied| !named.contains(denied.as_path()));
        policy.made.retain(|made| !named.contains(made.inside.as_path()));
        let again =
            |old: &PatternRule| self.patterns.iter().any(|new| new.pattern == old.pattern && new.log == old.log);
        policy.patterns.retain(|old| !again(old));
    }
}

/// In one layer a name that is both set and unset is set.
fn lay_environment(new: Environment, old: &mut Environment) {
    if new.clear {
        *old = Environment { clear: true, ..Environment::default() };
    }
    if new.inherit_all {
        old.inherit_all = true;
        old.clear = false;
    }
    let said: HashSet<&OsString> = new.unset.iter().chain(new.set.iter().map(|(name, _)| name)).collect();
    old.set.retain(|(name, _)| !said.contains(name));
    old.unset.retain(|name| !said.contains(name));
    drop(said);
    old.unset.extend(new.unset);
    old.set.extend(new.set);
}

fn replace<T>(old: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *old = new;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(path: &str, access: Access) -> Grant {
        Grant { host: path.into(), inside: path.into(), access, optional: false }
    }

    #[test]
    fn the_later_layer_wins_about_the_same_name() {
        let mut policy = Policy::bare(vec!["true".into()]);
        let profile = Layer {
            grants: vec![grant("/a", Access::Write), grant("/b", Access::Read)],
            hide: vec!["/a/secret".into(), "/a/other".into()],
            ..Layer::default()
        };
        profile.lay_over(&mut policy);
        let command_line = Layer {
            grants: vec![grant("/a", Access::Read), grant("/a/secret", Access::Read)],
            hide: vec!["/b".into()],
            ..Layer::default()
        };
        command_line.lay_over(&mut policy);

        assert_eq!(policy.grants, [grant("/a", Access::Read), grant("/a/secret", Access::Read)]);
        assert_eq!(policy.hide, [Path::new("/a/other"), Path::new("/b")]);
    }

    #[test]
    fn abilities_add_up() {
        let mut policy = Policy::bare(vec!["true".into()]);
        Layer { allow: vec![Ability::Mount], ..Layer::default() }.lay_over(&mut policy);
        Layer::default().lay_over(&mut policy);
        assert_eq!(policy.allow, [Ability::Mount]);
    }

    #[test]
    fn what_is_not_mentioned_stays() {
        let mut policy = Policy { net: Net::All, cwd: Some(Access::Cow), ..Policy::bare(vec!["true".into()]) };
        let before = policy.clone();
        Layer::default().lay_over(&mut policy);
        assert_eq!(policy, before);
    }

    #[test]
    fn variables_are_set_and_unset_in_turn() {
        let mut policy = Policy::bare(vec!["true".into()]);
        let set = |name: &str| (OsString::from(name), None);
        let first = Environment { set: vec![set("A"), set("B")], unset: vec!["C".into()], ..Environment::default() };
        Layer { environment: first, ..Layer::default() }.lay_over(&mut policy);
        let second = Environment { set: vec![set("C")], unset: vec!["A".into()], ..Environment::default() };
        Layer { environment: second, ..Layer::default() }.lay_over(&mut policy);
        assert_eq!(policy.environment.set, [set("B"), set("C")]);
        assert_eq!(policy.environment.unset, ["A"]);
    }
}
