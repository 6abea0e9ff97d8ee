//! From the options of `sentry run` to a policy: profile, then policy files, then what was typed.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::kept;
use super::options::Run;
use crate::policy::file::Reader;
use crate::policy::layer::Layer;
use crate::policy::path::{absolute, check_bytes, inside, shown};
use crate::policy::rule::{Kind, MadeFile};
use crate::policy::view::{self, Facts, Source, View};
use crate::policy::{
    Access, Environment, Error, Grant, Interpose, Policy, ProcFiles, Scratch, Sink, environment, kernel, profile,
};

/// The policy that `options` ask for, checked as far as it can be without building it.
pub fn policy(mut options: Run, facts: &Facts) -> anyhow::Result<Policy> {
    let mut policy = Policy::bare(std::mem::take(&mut options.command));
    let mut reader = Reader::new(facts);
    if let Some(name) = &options.profile {
        reader.profile(name, &mut policy)?;
    }
    let mut base = options.profile.is_none().then_some(profile::DEFAULT);
    for file in &options.policy {
        reader.file(file, base.take(), &mut policy)?;
    }
    if let Some(base) = base {
        reader.profile(base, &mut policy)?;
    }

    let here = |path: &Path| absolute(&facts.cwd, path);
    policy.allow_degraded = options.allow_degraded;
    policy.trace_denied = options.trace.is_some();
    policy.quiet = options.quiet;
    policy.json = options.json.as_deref().map(|sink| self::sink(sink, facts)).transpose()?;
    policy.meta = options.meta.as_deref().map(here);
    if let Some(prefix) = &options.resume {
        policy.resume = Some(kept::named(kept::runs()?, prefix)?.record.id);
    }
    policy.audit = options.audit.as_deref().map(here);
    layer(options, facts)?.lay_over(&mut policy);

    if policy.proc == ProcFiles::Live {
        policy.interpose = Interpose::Full;
    }
    policy.validate()?;
    let view = view::arrange(&policy, facts)?;
    for file in &reader.files {
        check_out_of_reach("policy", file, &view)?;
    }
    if let Some(audit) = &policy.audit {
        check_out_of_reach("audit log", audit, &view)?;
    }
    Ok(policy)
}

/// What was typed, as a layer.
fn layer(options: Run, facts: &Facts) -> Result<Layer, Error> {
    let here = |path: &Path| absolute(&facts.cwd, path);
    let mut layer = Layer {
        root: options.root.as_deref().map(here),
        workdir: options.workdir.as_deref().map(here),
        net: options.net,
        hostname: options.hostname,
        proc: options.proc_files,
        kernel: options.uname.as_deref().map(kernel::parse).transpose()?,
        clock: options.clock,
        limits: options.limits,
        cow_store: options.cow_store,
        interpose: options.interpose,
        platform: options.platform,
        fake_root: options.fake_root,
        userns: options.userns,
        nested: options.nested.then_some(true),
        allow: options.allow,
        seccomp: options.seccomp.as_deref().map(here),
        environment: Environment { inherit_all: options.env_all, ..Environment::default() },
        ..Layer::default()
    };
    let rules = [
        (&options.read, Kind::Read),
        (&options.write, Kind::Write),
        (&options.cow, Kind::Cow),
        (&options.deny, Kind::Deny),
        (&options.hide, Kind::Hide),
        (&options.log, Kind::Log),
    ];
    for (paths, kind) in rules {
        for path in paths {
            if kind == Kind::Cow && here(path) == Path::new("/") {
                layer.grants.extend(whole_host(facts, options.fake_root.is_some()));
                continue;
            }
            layer.rule(kind, &facts.cwd, &facts.home, path)?;
        }
    }
    for file in &options.file {
        layer.made.push(MadeFile::parse(file, &facts.cwd, &facts.home)?);
    }
    for redirect in &options.redirect {
        layer.made.push(MadeFile::redirect(redirect, &facts.cwd, &facts.home)?);
    }
    for volume in &options.volume {
        let volume = Grant::volume(volume)?;
        layer.grants.push(Grant { host: here(&volume.host), ..volume });
    }
    for tmpfs in &options.tmpfs {
        let (path, size) = Scratch::split(tmpfs)?;
        check_bytes(path.as_os_str())?;
        layer.scratch.push(Scratch { inside: inside(&facts.cwd, &path)?, size });
    }
    for variable in &options.env {
        let bytes = variable.as_bytes();
        let (name, value) = match bytes.iter().position(|byte| *byte == b'=') {
            Some(equals) => (&bytes[..equals], Some(OsStr::from_bytes(&bytes[equals + 1..]).to_owned())),
            None => (bytes, None),
        };
        let name = OsStr::from_bytes(name);
        environment::check_name(name)?;
        layer.environment.set.push((name.to_owned(), value));
    }
    options.bubblewrap.add_to(&mut layer, facts)?;
    Ok(layer)
}

/// `--cow /`: the root of the view is our own, so each directory in the host's root is granted by itself. What belongs to a
/// running system, and what each sandbox has of its own, stays out.
fn whole_host(facts: &Facts, fake_root: bool) -> Vec<Grant> {
    const OWN: [&str; 6] = ["/proc", "/sys", "/dev", "/run", "/tmp", "/lost+found"];
    let entries = std::fs::read_dir("/").into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut places: Vec<_> = directories.map(|entry| entry.path()).collect();
    places.retain(|path| !OWN.iter().any(|own| path == Path::new(own)));
    // The sandbox's root lives there, and has a home of its own where the host's is not the user's to look into.
    places.retain(|path| !fake_root || path != Path::new("/root") || std::fs::read_dir(path).is_ok());
    // The home directory would be a private one otherwise.
    places.push(facts.home.clone());
    places.sort();
    places.dedup();
    let grant =
        |path: std::path::PathBuf| Grant { inside: path.clone(), host: path, access: Access::Cow, optional: true };
    places.into_iter().filter(|path| path.as_path() != Path::new("/")).map(grant).collect()
}

/// Digits are the number of a descriptor, as in `3>report.json`; a file of that name is `./3`.
fn sink(given: &Path, facts: &Facts) -> Result<Sink, Error> {
    let text = given.as_os_str().as_bytes();
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Ok(Sink::File(absolute(&facts.cwd, given)));
    }
    let number = String::from_utf8_lossy(text).parse();
    number.map(Sink::Descriptor).map_err(|_| {
        Error::new(format!("--json {}: there is no such descriptor", shown(given)), "use a small number or a file")
    })
}

/// A policy that the program can rewrite would bind only until the next run; a log that it can rewrite tells nothing.
fn check_out_of_reach(what: &str, file: &Path, view: &View) -> Result<(), Error> {
    let real = |path: &Path| {
        let parent = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
        path.canonicalize().ok().or_else(parent).unwrap_or_else(|| path.to_owned())
    };
    let file = real(file);
    let covers = view.entries.iter().filter_map(|entry| match &entry.source {
        Source::Host { path, access, .. } => {
            let path = real(path);
            file.starts_with(&path).then_some((path.components().count(), *access, entry))
        }
        _ => None,
    });
    // The same directory may be granted under two names: then it is in reach if one of them is.
    let rank = |access: &Access| (*access == Access::Write) as u8;
    match covers.max_by_key(|(depth, access, _)| (*depth, rank(access))) {
        Some((_, Access::Write, entry)) => {
            let message = format!("the {what} {} could be rewritten by the program: {}", shown(&file), entry.option());
            let elsewhere = if what == "policy" { format!(", or add --read {}", shown(&file)) } else { String::new() };
            Err(Error::new(message, format!("keep it elsewhere{elsewhere}")))
        }
        _ => Ok(()),
    }
}
