//! Errors and warnings: on standard error, and in the log that an engine names with `--log`.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::SystemTime;

use super::cli::Global;

/// Where messages go.
#[derive(Clone, Debug)]
pub struct Log {
    file: Option<PathBuf>,
    json: bool,
    quiet: bool,
}

impl Log {
    /// As the command line wants it.
    pub fn new(global: &Global) -> Self {
        let level = global.log_level.as_deref().unwrap_or_default();
        let quiet = matches!(level, "error" | "fatal" | "panic") && !global.debug;
        Self { file: global.log.clone(), json: global.log_format == "json", quiet }
    }

    /// Why the command failed.
    pub fn error(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "sentry-oci: {text}");
        self.line("error", text);
    }

    /// What was done without.
    pub fn warn(&self, text: &str) {
        if self.quiet {
            return;
        }
        // Engines show what a runtime wrote on standard error as if it were the container's.
        if self.file.is_none() {
            let _ = writeln!(std::io::stderr(), "sentry-oci: warning: {text}");
        }
        self.line("warning", text);
    }

    fn line(&self, level: &str, text: &str) {
        let Some(file) = &self.file else { return };
        let open = std::fs::File::options().append(true).create(true).mode(0o600).open(file);
        if let Ok(mut file) = open {
            let _ = file.write_all(self.format(level, text, SystemTime::now()).as_bytes());
        }
    }

    fn format(&self, level: &str, text: &str, now: SystemTime) -> String {
        let time = humantime::format_rfc3339_nanos(now).to_string();
        if self.json {
            return format!("{}\n", serde_json::json!({"level": level, "msg": text, "time": time}));
        }
        format!("time={time:?} level={level} msg={text:?}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_engines_read() {
        let global = Global { log_format: "json".to_owned(), ..Global::default() };
        let line = Log::new(&global).format("error", "a \"b\"\n", SystemTime::UNIX_EPOCH);
        assert_eq!(
            line,
            "{\"level\":\"error\",\"msg\":\"a \\\"b\\\"\\n\",\"time\":\"1970-01-01T00:00:00.000000000Z\"}\n"
        );
    }
}
