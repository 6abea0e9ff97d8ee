//! `sentry explain`: what a policy comes down to on this host, rule by rule, for one path, or for one system call.
//!
//! It arranges the view exactly as `sentry run` does, on the same host at the same moment, and starts nothing.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use syscalls::page;
use syscalls::rules::{Effect, Standing};
use syscalls::table::{self, Verdict};

use super::options::Run;
use crate::monitor::nested;
use crate::monitor::placed::{Layer, Placed};
use crate::monitor::view::Arranged;
use crate::monitor::weigh;
use crate::policy::clock::Clock;
use crate::policy::path::{absolute, shown};
use crate::policy::view::{self, Facts, SYSTEM, Source};
use crate::policy::{Ability, Access, FakeRoot, Interpose, Mechanism, Net, Policy};

const EXAMPLES: &str = "\
It takes the options of 'sentry run', and starts nothing.

Examples:
  sentry explain                                      the default policy, here
  sentry explain --write . --hide '**/.env*'          each rule, who enforces it, what it costs
  sentry explain --policy strict.toml --path ./.env   what may be done with one path, and by which rule
  sentry explain --interpose full --syscall openat    how one system call is treated";

/// Tell who enforces each rule, and what may be done with a path
#[derive(Args, Debug)]
#[command(override_usage = "sentry explain [--path PATH | --syscall NAME] [OPTIONS OF sentry run]")]
#[command(after_help = EXAMPLES, disable_help_flag = true)]
pub struct Explain {
    /// Tell about this path of the view
    #[arg(long, value_name = "PATH", conflicts_with = "syscall", help_heading = "Explain")]
    path: Option<PathBuf>,
    /// Tell about this system call
    #[arg(long, value_name = "NAME", help_heading = "Explain")]
    syscall: Option<String>,
    #[command(flatten)]
    run: Run,
}

impl Explain {
    /// Writes the answer to `out`.
    pub fn run(mut self, out: &mut dyn Write) -> anyhow::Result<u8> {
        if self.run.command.is_empty() {
            self.run.command.push("true".into());
        }
        let facts = crate::host::user_facts()?;
        let policy = super::run::policy(self.run, &facts)?;
        if policy.nested && self.path.is_none() && self.syscall.is_none() {
            return about_nested(out, &policy, &facts);
        }
        let (arranged, features) = weigh(&policy, &facts)?;
        match (&self.path, &self.syscall) {
            (Some(path), _) => about_path(out, &policy, &facts, &arranged, path)?,
            (_, Some(name)) => about_syscall(out, &policy, &features, name)?,
            _ => about_rules(out, &policy, &arranged, &features)?,
        }
        Ok(0)
    }
}

fn about_rules(
    out: &mut dyn Write,
    policy: &Policy,
    arranged: &Arranged,
    features: &[table::Feature],
) -> std::io::Result<()> {
    let mut rows: Vec<[&str; 4]> = Vec::new();
    // The default view is made of many small mounts that nobody asked for one by one.
    let asked = |placed: &&Placed| !placed.rule.starts_with("the default view");
    for placed in arranged.placed.iter().filter(asked) {
        rows.push([&placed.rule, placed.layer.word(), placed.layer.cost(), placed.remark]);
    }
    if policy.interpose == Interpose::Full {
        rows.push(["--interpose full", Layer::Paths.word(), Layer::Paths.cost(), ""]);
    }
    if policy.platform == Mechanism::Ptrace {
        let remark = "no gdb or strace inside, see docs/platforms.md";
        let cost = "an open costs four times as much, a fork some microseconds";
        rows.push(["--platform ptrace", "a tracer in the listener's place", cost, remark]);
    }
    if policy.audit.is_some() {
        rows.push(["--audit", Layer::Paths.word(), Layer::Paths.cost(), "decisions are told to the log"]);
    }
    if policy.fake_root == FakeRoot::Range {
        let remark = "ids are the kernel's, of a range of the user's; set-id bits are left out, see docs/fake-root.md";
        rows.push(["--fake-root=range", "id maps", "nothing per call", remark]);
    }
    if policy.fake_root == FakeRoot::Pretend {
        let cost = "some microseconds a call";
        rows.push([
            "--fake-root",
            "sentry",
            cost,
            "ids and ownership are pretended; no boundary, see docs/fake-root.md",
        ]);
    }
    if policy.kernel.is_some() {
        rows.push(["--uname", "view + sentry", "uname is answered by the sentry", "files of /proc are covered"]);
    }
    if arranged.rules.memory.is_some() {
        let remark = "files of /proc are covered, so that programs find the limit";
        rows.push(["--memory as a number", "view + sentry", "sysinfo is answered by the sentry", remark]);
    }
    if policy.limits.cpus.is_some() {
        rows.push([
            "--cpus as a number",
            "view",
            "nothing per call",
            "pinned; files of /proc and /sys tell of these only",
        ]);
    }
    if policy.allow.contains(&Ability::Mount) {
        rows.push([
            "--allow mount",
            "view + sentry",
            "a few system calls per mount",
            "a process of its own mounts within the view",
        ]);
    }
    let net = match policy.net {
        Net::None => {
            ["--net none", "network namespace", "nothing per call", "connect is watched to name refused hosts"]
        }
        Net::All => ["--net all", "none", "nothing per call", "the host's network is shared"],
    };
    rows.push(net);
    if policy.clock != Clock::Hosts {
        rows.push([
            "--clock",
            "vDSO of each program",
            "a function call per reading, a stop per exec",
            "see docs/clock.md",
        ]);
    }
    rows.push(["system calls", "filter", "the price of any filter", "see docs/syscalls.md, or --syscall NAME"]);
    let wide = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).min(56);
    let (first, second, third) = (wide(0), wide(1), wide(2));
    for [rule, layer, cost, remark] in &rows {
        let line = format!("{:first$}  {layer:second$}  {cost:third$}  {remark}", crate::report::escape(rule));
        writeln!(out, "{}", line.trim_end())?;
    }
    let ring_2: Vec<&str> = features.iter().map(|feature| page::feature(*feature)).collect();
    if !ring_2.is_empty() {
        writeln!(out, "\nring 2 is in use for: {}", ring_2.join("; "))?;
    }
    for note in &arranged.notes {
        writeln!(out, "\n{}", crate::report::escape(note))?;
    }
    Ok(())
}

fn about_nested(out: &mut dyn Write, policy: &Policy, facts: &Facts) -> anyhow::Result<u8> {
    writeln!(out, "--nested: a filter without a supervisor, Landlock rules made of the grants, limits")?;
    for lost in nested::weigh(policy, facts)? {
        writeln!(out, "  without {}", crate::report::escape(&lost))?;
    }
    Ok(0)
}

fn about_path(
    out: &mut dyn Write,
    policy: &Policy,
    facts: &Facts,
    arranged: &Arranged,
    given: &Path,
) -> anyhow::Result<()> {
    let typed = absolute(&facts.cwd, given);
    let view = view::arrange(policy, facts)?;
    let entry = view.entries.iter().filter(|entry| typed.starts_with(&entry.inside));
    let entry = entry.max_by_key(|entry| entry.inside.components().count());
    // The sentry judges by where an object lies; links on the host lead there for the view as well.
    let path = typed.canonicalize().unwrap_or_else(|_| typed.clone());
    let escape = |text: &str| crate::report::escape(text);
    writeln!(out, "{}", escape(&shown(&typed)))?;
    if path != typed {
        writeln!(out, "  leads to       {}", escape(&shown(&path)))?;
    }
    let (mut may, by, layer) = match entry.map(|entry| (&entry.source, entry.option())) {
        Some((Source::Host { access, .. }, option)) => {
            let may = match access {
                Access::Read => "read",
                Access::Write => "read and change; changes reach the host",
                Access::Cow => "read and change; changes go to a copy",
            };
            (may, option, Layer::View)
        }
        Some((Source::Private { .. }, option)) => {
            ("read and change; it is the sandbox's own, empty at first", option, Layer::View)
        }
        Some((Source::Made(_) | Source::Kept { .. }, option)) => ("read", option, Layer::View),
        Some((Source::Denied, option)) => ("see that it is there", option, Layer::View),
        Some((Source::Hidden, option)) => ("nothing", option, Layer::View),
        None if policy.root.is_some() => ("read", "--root".to_owned(), Layer::View),
        None if policy.system && SYSTEM.iter().any(|system| typed.starts_with(system)) => {
            ("read, where the default view shows it", "the default view".to_owned(), Layer::View)
        }
        None if typed.starts_with("/proc") || typed.starts_with("/dev") => {
            ("what the sandbox's own allows", "the default view".to_owned(), Layer::View)
        }
        None => {
            let remedy = format!("it is not in the view; allow with --read {}", shown(&typed));
            ("nothing", remedy, Layer::View)
        }
    };
    let (mut by, mut layer) = (by, layer);
    let candidates = [&path, &typed];
    let rules = &arranged.rules;
    if let Some(rule) = candidates.iter().find_map(|path| rules.decides(path)) {
        by.clone_from(&rule.text);
        let narrowed = match rule.effect {
            Some(Effect::Hide) => Some("nothing; it does not exist, and cannot be made"),
            Some(Effect::Deny) => Some("see that it is there"),
            Some(Effect::Read) => Some("read"),
            Some(Effect::Write) | None => None,
        };
        if let Some(narrowed) = narrowed {
            (may, layer) = (narrowed, Layer::Paths);
        }
    }
    if candidates.iter().any(|path| rules.virtual_file(path).is_some()) {
        (may, layer) = ("read", Layer::Paths);
    }
    writeln!(out, "  the program may  {may}")?;
    writeln!(out, "  by               {}", escape(&by))?;
    writeln!(out, "  enforced by      {} ({})", layer.word(), layer.cost())?;
    match rules.standing(&path) {
        Standing::Protected => writeln!(out, "  its name         must not come into being (sentry)")?,
        Standing::Ancestor => writeln!(out, "  its name         stays: it leads to a name under a rule (sentry)")?,
        Standing::Free => {}
    }
    if let Some(rule) = candidates.iter().find_map(|path| rules.logs(path)) {
        writeln!(out, "  logged by        {}", escape(&rule.text))?;
    }
    Ok(())
}

fn about_syscall(out: &mut dyn Write, policy: &Policy, features: &[table::Feature], name: &str) -> anyhow::Result<()> {
    let Some(call) = table::find(name) else { return Err(super::syscalls::unknown(name).into()) };
    let route = call.route_with(policy.surface, features);
    let reason = call.special.iter().find(|(feature, _)| features.contains(feature));
    out.write_all(page::describe(call).as_bytes())?;
    let why = match (&route.otherwise, reason) {
        (Verdict::Fail(_), _) if call.surface > policy.surface => "it is outside the surface of this policy".to_owned(),
        (_, Some((feature, _))) => format!("because of {}", page::feature(*feature)),
        _ => "as for every policy".to_owned(),
    };
    writeln!(out, "\nunder this policy: {}, {why}", route.word())?;
    Ok(())
}
