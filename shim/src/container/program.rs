//! Which file a container's program is: execvp(3), as the process specification asks, told before it is run.

use std::ffi::CString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::fstat;
use oci_spec::runtime::Process;

use super::root::{Root, type_of};
use crate::exec::execute;
use crate::failure::Failure;
use crate::sys;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The program with its arguments and environment, as execve(2) takes them.
#[derive(Debug)]
pub struct Program {
    name: String,
    cwd: PathBuf,
    path: String,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Program {
    /// What `process` asks for, with `more` variables.
    pub fn new(process: &Process, more: &[String]) -> Result<Self, Failure> {
        let empty = || Failure::check_text("process.args names no program");
        let arguments = process.args().as_deref().unwrap_or_default();
        let name = arguments.first().filter(|name| !name.is_empty()).ok_or_else(empty)?.clone();
        let mut environment: Vec<String> = process.env().clone().unwrap_or_default();
        let variable = |environment: &[String], name: &str| {
            environment.iter().rev().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
        };
        let path = variable(&environment, "PATH").unwrap_or_else(|| PATH.to_owned());
        if variable(&environment, "HOME").is_none_or(|home| home.is_empty()) {
            environment.retain(|entry| !entry.starts_with("HOME="));
            environment.push(format!("HOME={}", home_of(process.user().uid())));
        }
        environment.extend(more.iter().cloned());
        Ok(Self {
            name,
            cwd: process.cwd().clone(),
            path,
            arguments: strings(arguments)?,
            environment: strings(&environment)?,
        })
    }

    /// Fails as running it would, as far as names and modes tell.
    pub fn check(&self) -> Result<(), Failure> {
        if self.name.contains('/') {
            return match allowed(&self.cwd.join(&self.name)) {
                Ok(()) => Ok(()),
                Err(errno) => Err(self.refused(errno)),
            };
        }
        let mut worst = Errno::ENOENT;
        for directory in self.path.split(':') {
            match allowed(&self.cwd.join(directory).join(&self.name)) {
                Ok(()) => return Ok(()),
                Err(Errno::EACCES) => worst = Errno::EACCES,
                Err(_) => {}
            }
        }
        Err(self.refused(worst))
    }

    /// Runs it. Returns why it could not.
    pub fn run(&self) -> Failure {
        let search: Vec<CString> = self.path.split(':').filter_map(|entry| CString::new(entry).ok()).collect();
        let failure = execute(&self.arguments, &self.environment, &search);
        self.refused(Errno::from_raw(failure.errno))
    }

    /// In the words that engines look for.
    fn refused(&self, errno: Errno) -> Failure {
        let name = &self.name;
        let why = match errno {
            Errno::ENOENT if !name.contains('/') => "executable file not found in $PATH".to_owned(),
            Errno::ENOENT => format!("stat {name}: no such file or directory"),
            Errno::EACCES | Errno::EISDIR => "permission denied".to_owned(),
            errno => errno.desc().to_lowercase(),
        };
        let mut failure = Failure::check_text(format!("cannot run {name:?}: {why}"));
        failure.exit = if errno == Errno::ENOENT { 127 } else { 126 };
        failure
    }
}

fn strings(texts: &[String]) -> Result<Vec<CString>, Failure> {
    let string = |text: &String| {
        CString::new(text.as_str()).map_err(|_| Failure::check_text("process.args and process.env may not contain NUL"))
    };
    texts.iter().map(string).collect()
}

fn allowed(path: &Path) -> Result<(), Errno> {
    let stat = std::fs::metadata(path).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)));
    match stat {
        Err(Errno::ENOTDIR) => Err(Errno::ENOENT),
        Err(errno) => Err(errno),
        Ok(stat) if !stat.is_file() || stat.permissions().mode() & 0o111 == 0 => Err(Errno::EACCES),
        Ok(_) => Ok(()),
    }
}

/// The user's home directory by the container's own list of users. It is the image's, so it is read with a limit, only if it
/// is a plain file, and never through `/proc/self/fd`: this process still holds the host's procfs.
fn home_of(uid: u32) -> String {
    use std::io::Read;
    let read = || -> Option<String> {
        let root = Root::new(sys::open_at(None, c"/", libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC, 0, 0).ok()?);
        let path = Path::new("/etc/passwd");
        // Looked at before it is opened: to open a device may do something already.
        let seen = root.open(path, libc::O_PATH).ok()?;
        if type_of(&fstat(&seen).ok()?) != libc::S_IFREG {
            return None;
        }
        let file = std::fs::File::from(root.open(path, libc::O_RDONLY | libc::O_NONBLOCK).ok()?);
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut text = Vec::new();
        file.take(1 << 20).read_to_end(&mut text).ok()?;
        home_in(uid, &String::from_utf8_lossy(&text))
    };
    read().unwrap_or_else(|| "/".to_owned())
}

fn home_in(uid: u32, passwd: &str) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        (fields.next()?.parse() == Ok(uid)).then_some(())?;
        fields.nth(2).filter(|home| home.starts_with('/')).map(str::to_owned)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn program(text: &str) -> Program {
        Program::new(&serde_json::from_str(text).unwrap(), &[]).unwrap()
    }

    #[test]
    fn a_missing_program_is_named_in_the_words_that_engines_know() {
        let refused = |args: &str| {
            let text = format!(r#"{{"user": {{}}, "cwd": "/", "env": ["PATH=/usr/bin:/bin"], "args": [{args}]}}"#);
            program(&text).check().unwrap_err()
        };
        let failure = refused(r#""no-such-program""#);
        assert!(failure.to_string().contains("executable file not found in $PATH"), "{failure}");
        assert_eq!(failure.exit, 127);
        let failure = refused(r#""/no/such/program""#);
        assert!(failure.to_string().contains("no such file or directory"), "{failure}");
        for refused in [refused(r#""/etc/passwd""#), refused(r#""/etc""#)] {
            assert!(refused.to_string().contains("permission denied"), "{refused}");
            assert_eq!(refused.exit, 126);
        }
    }

    #[test]
    fn relative_names_are_looked_up_from_the_working_directory() {
        program(r#"{"user": {}, "cwd": "/usr", "args": ["bin/env"]}"#).check().unwrap();
        program(r#"{"user": {}, "cwd": "/", "env": ["PATH=usr/bin"], "args": ["env"]}"#).check().unwrap();
    }

    #[test]
    fn the_home_directory_is_the_users() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nme:x:7:7::relative:/bin/sh\nyou:x:8:8::/home/you:\n";
        assert_eq!(home_in(0, passwd).as_deref(), Some("/root"));
        assert_eq!(home_in(7, passwd), None);
        assert_eq!(home_in(8, passwd).as_deref(), Some("/home/you"));
    }
}
