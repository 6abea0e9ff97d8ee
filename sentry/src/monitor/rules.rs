//! Rules that no mount can express: what the sentry is told about paths.
//!
//! As soon as there is one, every call that takes a path is judged, and then the names that are mounts as well are told to
//! the sentry too: among all rules about a path the nearest wins, whichever layer it is in.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use shim::failure::Failure;
use syscalls::pattern::Pattern;
use syscalls::rules::{Effect, PathRule};

use super::placed::Layer;
use super::view::Builder;
use crate::policy::rule::{PatternRule, escaped};
use crate::policy::view::{self as arranged, Entry, SYSTEM};
use crate::policy::{Access, Interpose};

impl Builder<'_> {
    /// Decides about each pattern, and tells the sentry about exact names where it judges paths anyway.
    pub(super) fn path_rules(&mut self) -> Result<(), Failure> {
        let patterns = self.policy.patterns.as_slice();
        for rule in patterns {
            self.pattern(rule)?;
        }
        let kept_away = |entry: &Entry| matches!(entry.source, arranged::Source::Denied | arranged::Source::Hidden);
        let judged = self.policy.interpose == Interpose::Full || self.policy.audit.is_some();
        let exact = !self.result.rules.paths.is_empty()
            || self.entries.iter().any(|entry| kept_away(entry) && (judged || self.is_shared(&entry.inside)));
        if !exact && self.policy.audit.is_none() {
            return Ok(());
        }
        let rules: Vec<PathRule> = self.entries.iter().filter_map(|entry| self.exactly(entry)).collect();
        self.result.rules.paths.extend(rules);
        let beneath_system = |path: &&Path| is_system(path);
        let granted = self.entries.iter().filter(|entry| matches!(entry.source, arranged::Source::Host { .. }));
        let granted = granted.map(|entry| entry.inside.as_path()).filter(beneath_system).map(Path::to_owned).collect();
        self.result.rules.granted = granted;
        self.result.rules.system = SYSTEM.iter().chain(&["/proc", "/sys", "/dev"]).map(Into::into).collect();
        Ok(())
    }

    /// Tells the sentry about a pattern, unless the view enforces it already.
    fn pattern(&mut self, rule: &PatternRule) -> Result<(), Failure> {
        let base = rule.pattern.base();
        if rule.anchored && !is_system(&base) && self.is_outside(&base) {
            if matches!(rule.effect, Some(Effect::Read | Effect::Write)) {
                let message = format!("{}: nothing of {} is in the view", rule.text, base.display());
                return Err(Failure::check_text(message).remedy(format!(
                    "grant the directory with --write {}, and say with a pattern what in it is special",
                    base.display()
                )));
            }
            self.note(&rule.text, Layer::None, "nothing of it is in the view");
            return Ok(());
        }
        let read_only = rule.anchored && self.is_read_only(&base);
        match rule.effect {
            Some(Effect::Write) if read_only => {
                let message = format!("{}: {} is read-only in the view", rule.text, base.display());
                return Err(Failure::check_text(message).remedy(format!(
                    "grant it with --write {0}, and keep the rest with --read '{0}/**'",
                    base.display()
                )));
            }
            Some(Effect::Read) if read_only => {
                self.note(&rule.text, Layer::View, "all of it is read-only already");
                return Ok(());
            }
            _ => {}
        }
        let real = self.real_place(&base);
        let rebased = if real == base { None } else { rule.pattern.rebased(&base, &real) };
        for pattern in std::iter::once(rule.pattern.clone()).chain(rebased) {
            self.result.rules.paths.push(PathRule {
                pattern,
                effect: rule.effect,
                log: rule.log,
                anchored: rule.anchored,
                text: rule.text.clone(),
            });
        }
        self.note(&rule.text, Layer::Paths, "each call is judged by where the object lies; ring 1 holds the view only");
        Ok(())
    }

    /// Where `typed` leads in the view. The sentry judges by where an object lies, so a pattern that was written by way of a
    /// link must be told where the link leads.
    fn real_place(&self, typed: &Path) -> PathBuf {
        let own = self.entries.iter().find(|entry| entry.inside == typed);
        let over = own.or_else(|| self.grant_above(typed));
        let host = match over.map(|entry| (entry, &entry.source)) {
            Some((entry, arranged::Source::Host { path, .. })) => {
                path.join(typed.strip_prefix(&entry.inside).unwrap_or(Path::new("")))
            }
            _ => typed.to_owned(),
        };
        // What does not exist yet is named as it was written, behind what does.
        let real = host.ancestors().find_map(|part| {
            let real = std::fs::canonicalize(part).ok()?;
            Some(real.join(host.strip_prefix(part).ok()?))
        });
        let real = real.unwrap_or_else(|| typed.to_owned());
        over.and_then(|over| self.as_seen(&real, over)).unwrap_or(real)
    }

    /// Whether no part of the view lies at, above or beneath `base`.
    fn is_outside(&self, base: &Path) -> bool {
        self.policy.root.is_none()
            && !self.entries.iter().any(|entry| base.starts_with(&entry.inside) || entry.inside.starts_with(base))
    }

    /// Whether `name` lies in a directory that the program and the host change alike. A program outside that replaces the
    /// file there, as editors do, takes the cover away with it: the kernel detaches a mount when its mount point is
    /// renamed over or removed in another mount namespace.
    pub(super) fn is_shared(&self, name: &Path) -> bool {
        let over = self.grant_above(name).map(|entry| &entry.source);
        matches!(over, Some(arranged::Source::Host { access: Access::Write, .. }))
    }

    /// Whether nothing at or beneath `base` can be changed.
    fn is_read_only(&self, base: &Path) -> bool {
        let changes = |entry: &Entry| match &entry.source {
            arranged::Source::Host { access, .. } => *access != Access::Read,
            arranged::Source::Private { .. } => true,
            _ => false,
        };
        let own = self.entries.iter().find(|entry| entry.inside == base).or_else(|| self.grant_above(base));
        if own.is_none() && self.policy.root_writable() {
            return false;
        }
        !own.is_some_and(changes) && !self.entries.iter().any(|entry| entry.inside.starts_with(base) && changes(entry))
    }

    /// An exact name as a rule for the sentry, which judges where an object lies: the name that was typed may lead there
    /// by a link.
    fn exactly(&self, entry: &Entry) -> Option<PathRule> {
        let option = entry.option();
        let effect = match &entry.source {
            // What is not there may be made.
            arranged::Source::Kept { .. } if !self.result.placed.iter().any(|placed| placed.rule == option) => {
                return None;
            }
            arranged::Source::Host { access: Access::Read, .. }
            | arranged::Source::Made(_)
            | arranged::Source::Kept { .. } => Effect::Read,
            arranged::Source::Host { .. } | arranged::Source::Private { .. } => Effect::Write,
            arranged::Source::Denied => Effect::Deny,
            arranged::Source::Hidden => Effect::Hide,
        };
        let is_link = |link: &CString| entry.inside == Path::new("/").join(OsStr::from_bytes(link.as_bytes()));
        let link = self.result.view.links.iter().find(|(link, _)| is_link(link));
        let real = link.map(|(_, target)| Path::new(OsStr::from_bytes(target.as_bytes())));
        let pattern = Pattern::new(&escaped(real.unwrap_or(&entry.inside))).ok()?;
        Some(PathRule { pattern, effect: Some(effect), log: false, anchored: true, text: option })
    }
}

fn is_system(path: &Path) -> bool {
    SYSTEM.iter().any(|system| path.starts_with(system))
}
