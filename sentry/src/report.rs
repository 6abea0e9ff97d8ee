//! What happened: the summary on standard error, the JSON report, isolate's format.
//!
//! Much of it was said by the guest or by a supervisor that may be hijacked, so names are escaped before they reach a
//! terminal or a line-based file, and there is never more than a screen of them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use shim::message::Usage;

use crate::changes::Kind;
use crate::monitor::limits::Enforced;

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// The program exited by itself.
    Exited,
    /// A signal killed it.
    Signal,
    /// Wall or processor time was up.
    Timeout,
    /// Memory was up.
    Memory,
    /// It failed with the limit on processes reached.
    Pids,
    /// Room on disk was up.
    Disk,
    /// It failed after a call was refused.
    Denied,
    /// There was no sandbox, or it broke.
    Setup,
}

/// A refused call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeniedCall {
    /// Its name.
    pub call: String,
    /// What it was about to do.
    pub what: String,
    /// What would allow it.
    pub remedy: String,
}

/// A changed file of a copy-on-write directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangedFile {
    /// What happened to it.
    #[serde(serialize_with = "word")]
    pub change: Kind,
    /// Its name on the host.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// How many names went with a deleted directory.
    pub within: u64,
    /// What is different, where that is not just content.
    pub detail: String,
    /// Whether the user's own tools run it or obey it.
    pub obeyed: bool,
}

fn word<S: serde::Serializer>(change: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(change.word())
}

fn lossy<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// A line about changes.
struct Line {
    change: Kind,
    text: String,
    obeyed: bool,
}

/// Which protections a run had.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Protections {
    /// In force.
    pub held: Vec<String>,
    /// Done without, as the user allowed.
    pub lost: Vec<String>,
}

/// Everything about a run that is over.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The format's version.
    pub version: u32,
    /// Why it ended.
    pub cause: Cause,
    /// The code that `sentry` exits with.
    pub exit_code: u8,
    /// The program's own exit code, if it exited.
    pub program_exit_code: Option<i32>,
    /// The signal that killed it, if one did.
    pub signal: Option<i32>,
    /// Wall time of the whole run, in seconds.
    pub wall_seconds: f64,
    /// Processor time in user mode, in seconds.
    pub user_seconds: f64,
    /// Processor time in the kernel, in seconds.
    pub system_seconds: f64,
    /// The most memory used: of all processes where it was counted or watched, otherwise of the largest process.
    pub peak_memory_bytes: u64,
    /// The most processes and threads seen, where they were watched.
    pub peak_pids: Option<u64>,
    /// Refused calls, each kind once.
    pub denials: Vec<DeniedCall>,
    /// How many calls were refused in all.
    pub denials_total: u64,
    /// How many of them are not among `denials`, nor the same as one of them.
    pub denials_dropped: u64,
    /// Limits, what enforced them, and whether they were reached.
    pub limits: Vec<Enforced>,
    /// Ring 1.
    pub protections: Protections,
    /// Changed files of copy-on-write directories, deletions first.
    pub changes: Vec<ChangedFile>,
    /// What of the copies could not be looked through.
    pub unseen: Vec<String>,
    /// Names that tools of the user's obey and that came to be in writable grants, where they could not be protected.
    pub appeared: Vec<PathBuf>,
    /// The run's name, by which its changes can be reviewed.
    pub run: Option<String>,
    /// Where the changed files are kept.
    #[serde(serialize_with = "optional_lossy")]
    pub changes_kept: Option<PathBuf>,
    /// Why there was no sandbox.
    pub error: Option<String>,
}

fn optional_lossy<S: serde::Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_some(&path.as_ref().map(|path| path.to_string_lossy()))
}

impl Report {
    /// A run that has not ended yet.
    pub fn new() -> Self {
        Self {
            version: 1,
            cause: Cause::Setup,
            exit_code: 125,
            program_exit_code: None,
            signal: None,
            wall_seconds: 0.0,
            user_seconds: 0.0,
            system_seconds: 0.0,
            peak_memory_bytes: 0,
            peak_pids: None,
            denials: Vec::new(),
            denials_total: 0,
            denials_dropped: 0,
            limits: Vec::new(),
            protections: Protections::default(),
            changes: Vec::new(),
            unseen: Vec::new(),
            appeared: Vec::new(),
            run: None,
            changes_kept: None,
            error: None,
        }
    }

    /// Fills in times and memory.
    pub fn used(&mut self, wall: Duration, usage: Usage, peak_memory: Option<u64>) {
        let seconds = |microseconds: u64| Duration::from_micros(microseconds).as_secs_f64();
        self.wall_seconds = wall.as_secs_f64();
        self.user_seconds = seconds(usage.user_us);
        self.system_seconds = seconds(usage.system_us);
        self.peak_memory_bytes = peak_memory.unwrap_or(0).max(usage.peak_process);
    }

    /// The summary for a person; empty if there is nothing to say.
    pub fn summary(&self, tracing: bool) -> String {
        let mut text = String::new();
        self.say_cause(&mut text);
        self.say_denials(&mut text);
        self.say_changes(&mut text);
        for path in &self.appeared {
            let _ = writeln!(text, "sentry: {} was made, and your tools obey it", name(path));
        }
        if self.program_exit_code.is_some_and(|code| code != 0) && self.denials.is_empty() && !tracing {
            let code = self.exit_code;
            let _ = writeln!(
                text,
                "sentry: the program exited with {code}; sentry run --trace denied shows what it looked for and did not find"
            );
        }
        text
    }

    fn say_cause(&self, text: &mut String) {
        let limit = |name| self.limits.iter().find(|limit| limit.hit && limit.name == name).map(|limit| limit.value);
        use crate::monitor::limits::Name;
        let _ = match self.cause {
            Cause::Timeout => match limit(Name::CpuTime) {
                Some(seconds) => writeln!(text, "sentry: stopped after {seconds} s of processor time (--cpu-time)"),
                None => {
                    let seconds = limit(Name::Timeout).unwrap_or_default();
                    writeln!(text, "sentry: stopped after {seconds} s (--timeout)")
                }
            },
            Cause::Memory => {
                let limit = bytes(limit(Name::Memory));
                writeln!(text, "sentry: stopped because it used more than {limit} of memory (--memory)")
            }
            Cause::Disk => {
                let limit = bytes(limit(Name::Disk));
                writeln!(text, "sentry: stopped because its files took more than {limit} (--disk)")
            }
            Cause::Pids => {
                let count = limit(Name::Pids).unwrap_or_default();
                writeln!(text, "sentry: it ran into the limit of {count} processes and threads (--pids)")
            }
            Cause::Setup => match &self.error {
                Some(error) => writeln!(text, "sentry: {}", escape(error)),
                None => Ok(()),
            },
            Cause::Exited | Cause::Signal | Cause::Denied => match limit(Name::Pids) {
                Some(count) => {
                    writeln!(text, "sentry: the limit of {count} processes and threads was reached (--pids)")
                }
                None => Ok(()),
            },
        };
    }

    fn say_denials(&self, text: &mut String) {
        const SHOWN: usize = 15;
        if self.denials_total == 0 {
            return;
        }
        let plural = if self.denials_total == 1 { "call was" } else { "calls were" };
        let _ = writeln!(text, "sentry: {} {plural} denied", self.denials_total);
        let line = |denied: &DeniedCall| format!("{} {}", denied.call, escape(&denied.what));
        let width =
            self.denials.iter().take(SHOWN).map(|denied| line(denied).chars().count()).max().unwrap_or(0).min(56);
        for denied in self.denials.iter().take(SHOWN) {
            let _ = writeln!(text, "  {:width$}  {}", line(denied), escape(&denied.remedy));
        }
        let rest = self.denials.len().saturating_sub(SHOWN);
        if rest > 0 || self.denials_dropped > 0 {
            let _ = writeln!(text, "  and {} more; --json has them", rest as u64 + self.denials_dropped);
        }
    }

    fn say_changes(&self, text: &mut String) {
        const SHOWN: usize = 20;
        if self.changes.is_empty() && self.unseen.is_empty() {
            return;
        }
        let count = self.changes.len();
        let plural = if count == 1 { "file" } else { "files" };
        let _ = writeln!(text, "sentry: {count} {plural} changed in a copy; the host's are untouched");
        let lines = self.folded_changes();
        // Deletions come first and are all shown: none may hide behind a long list of other changes.
        let deleted = self.changes.iter().filter(|file| file.change == Kind::Deleted).count();
        let shown = SHOWN.max(deleted);
        for line in &lines[..shown.min(lines.len())] {
            let _ = writeln!(text, "  {:7}  {}", line.change.word(), line.text);
        }
        // Nor may what takes effect outside.
        let obeyed = lines.iter().skip(shown).filter(|line| line.obeyed);
        let mut more = lines.len().saturating_sub(shown);
        for line in obeyed {
            let _ = writeln!(text, "  {:7}  {}", line.change.word(), line.text);
            more -= 1;
        }
        for problem in &self.unseen {
            let _ = writeln!(text, "  unknown  {}", escape(problem));
        }
        match &self.run {
            Some(run) => {
                if more > 0 {
                    let _ = writeln!(text, "  and {more} more; sentry diff {run} lists them");
                }
                let _ = writeln!(
                    text,
                    "  review with sentry diff {run}, take over with sentry commit {run}, or sentry discard {run}"
                );
            }
            None => {
                if more > 0 {
                    let _ = writeln!(text, "  and {more} more; --json has them");
                }
                let _ = writeln!(text, "  not kept (--cow-store memory)");
            }
        }
    }

    /// A line a change; what lies in a new directory is counted, not listed.
    fn folded_changes(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut rest = self.changes.as_slice();
        while let [first, tail @ ..] = rest {
            let within = match first.change {
                Kind::New => tail
                    .iter()
                    .take_while(|file| {
                        let obeyed = file.obeyed && !first.obeyed;
                        file.change == Kind::New && !obeyed && file.path.starts_with(&first.path)
                    })
                    .count(),
                Kind::Deleted | Kind::Changed => 0,
            };
            let mut line = name(&first.path);
            if within as u64 + first.within > 0 {
                let _ = write!(line, "/ with {} more", within as u64 + first.within);
            }
            if !first.detail.is_empty() {
                let _ = write!(line, "  ({})", first.detail);
            }
            if first.obeyed {
                line.push_str("  (your tools obey it)");
            }
            lines.push(Line { change: first.change, text: line, obeyed: first.obeyed });
            rest = &tail[within..];
        }
        lines
    }

    /// The report in the `key:value` format of isolate(1).
    pub fn isolate(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "time:{:.3}", self.user_seconds + self.system_seconds);
        let _ = writeln!(text, "time-wall:{:.3}", self.wall_seconds);
        let _ = writeln!(text, "max-rss:{}", self.peak_memory_bytes / 1024);
        if let Some(code) = self.program_exit_code {
            let _ = writeln!(text, "exitcode:{code}");
        }
        if let Some(signal) = self.signal {
            let _ = writeln!(text, "exitsig:{signal}");
        }
        let status = match self.cause {
            Cause::Exited | Cause::Denied | Cause::Pids if self.exit_code == 0 => None,
            Cause::Exited | Cause::Denied | Cause::Pids => Some(("RE", format!("exited with {}", self.exit_code))),
            Cause::Signal | Cause::Memory | Cause::Disk => {
                Some(("SG", format!("caught fatal signal ({:?})", self.cause)))
            }
            Cause::Timeout => Some(("TO", "time limit exceeded".to_owned())),
            Cause::Setup => Some(("XX", self.error.clone().unwrap_or_default())),
        };
        if matches!(self.cause, Cause::Timeout | Cause::Memory | Cause::Disk) {
            let _ = writeln!(text, "killed:1");
        }
        if self.cause == Cause::Memory {
            let _ = writeln!(text, "cg-oom-killed:1");
        }
        if let Some((status, message)) = status {
            let _ = writeln!(text, "status:{status}");
            let _ = writeln!(text, "message:{}", escape(&message));
        }
        text
    }
}

impl Default for Report {
    fn default() -> Self {
        Self::new()
    }
}

fn bytes(value: Option<f64>) -> String {
    let value = value.unwrap_or_default();
    let units = [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    #[allow(clippy::cast_precision_loss)] // a few powers of two
    let unit = units.into_iter().map(|(size, name)| (size as f64, name)).find(|(size, _)| value >= *size);
    unit.map_or(format!("{value} bytes"), |(size, name)| format!("{} {name}", (value / size * 10.0).round() / 10.0))
}

/// Makes hostile text harmless: one line, no control or formatting characters that a terminal would act on.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        let bidirectional = matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        // Two names that look the same would not be the same.
        let invisible = matches!(character, '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{feff}');
        if character.is_control() || bidirectional || invisible || character == '\u{2028}' || character == '\u{2029}' {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

/// A path for a list: escaped, and in quotes where its blanks could be taken for ours.
pub fn name(path: &Path) -> String {
    let text = escape(&path.to_string_lossy());
    let at_an_end = |part: &str| part.starts_with(char::is_whitespace) || part.ends_with(char::is_whitespace);
    let in_a_row =
        text.chars().zip(text.chars().skip(1)).any(|(one, next)| one.is_whitespace() && next.is_whitespace());
    if in_a_row || text.split('/').any(at_an_end) || text.starts_with('\'') {
        format!("'{}'", text.replace('\'', "'\\''"))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(escape("a\x1b[2Jb\nc\u{202e}d"), "a\\u{1b}[2Jb\\nc\\u{202e}d");
        assert_eq!(escape("\u{61c}\u{200b}\u{2060}\u{feff}"), "\\u{61c}\\u{200b}\\u{2060}\\u{feff}");
    }

    #[test]
    fn blanks_in_a_name_are_not_taken_for_ours() {
        for plain in ["/a/b c", "/a (executable)", "/it's"] {
            assert_eq!(name(Path::new(plain)), plain);
        }
        assert_eq!(name(Path::new("/a  (executable)")), "'/a  (executable)'");
        assert_eq!(name(Path::new("/a/ with 3 more")), "'/a/ with 3 more'");
        assert_eq!(name(Path::new("/it's ")), "'/it'\\''s '");
    }

    #[test]
    fn no_deletion_hides_behind_other_changes() {
        let mut report = Report::new();
        report.cause = Cause::Exited;
        let file = |change, path: &str| ChangedFile {
            change,
            path: path.into(),
            within: 0,
            detail: String::new(),
            obeyed: false,
        };
        report.changes = (0..100)
            .map(|n| file(Kind::Deleted, &format!("gone{n}")))
            .chain((0..100).map(|n| file(Kind::New, &format!("new{n}"))))
            .chain(["d", "d/a", "d/b", "da"].map(|path| file(Kind::New, path)))
            .chain([ChangedFile { obeyed: true, ..file(Kind::New, "z/.envrc") }])
            .collect();
        let text = report.summary(false);
        assert_eq!(text.matches("deleted  gone").count(), 100);
        assert!(text.contains("and 102 more") && text.contains("z/.envrc  (your tools obey it)\n"), "{text}");
        report.changes.drain(..200);
        let text = report.summary(false);
        assert!(text.contains("new      d/ with 2 more\n") && text.contains("new      da\n"), "{text}");
    }

    #[test]
    fn the_list_of_denials_fits_a_screen() {
        let mut report = Report::new();
        report.cause = Cause::Exited;
        report.denials_total = 5000;
        report.denials_dropped = 40;
        report.denials =
            (0..60).map(|n| DeniedCall { call: "mount".into(), what: format!("{n}"), remedy: "none".into() }).collect();
        let text = report.summary(false);
        assert!(text.lines().count() < 20, "{text}");
        assert!(text.contains("and 85 more"), "{text}");
    }

    #[test]
    fn isolates_format_has_one_key_a_line() {
        let mut report = Report::new();
        report.error = Some("cannot\nstatus:OK".into());
        assert!(report.isolate().contains("message:cannot\\nstatus:OK\n"), "{}", report.isolate());
    }
}
