//! `exec`: one more process in a running container.
//!
//! The runtime's side of [`shim::container::exec`].

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use oci_spec::runtime::{Capability, LinuxCapabilities, Process, User};
use shim::container::Proc;
use shim::container::exec::Exec as Newcomer;
use shim::container::launch::{self, Joined, Namespaces, ToContainer, ToRuntime};
use shim::container::process::{self, Entry as Seat};
use shim::failure::{Failure, Step};
use shim::message::receive;
use shim::{keeper, sys};

use super::cli::Exec;
use super::log::Log;
use super::state::{Record, Status, Store};
use super::{config, console, create, protect};
use crate::agent::policy::ContainerPolicy;

/// Runs a process in a container; its exit code, or 0 if nobody waits for it.
pub fn exec(store: &Store, exec: &Exec, log: &Log) -> Result<u8, Failure> {
    let preserved = create::preserved(exec.preserve_fds)?;
    // Nothing of ours is open yet, and what a caller has left open is none of the container's concern.
    sys::close_range(3 + preserved, u32::MAX);
    let entry = store.find(&exec.id)?;
    let record = entry.read()?;
    match entry.status(&record) {
        Status::Running => {}
        Status::Paused if exec.ignore_paused => {}
        Status::Paused => {
            return Err(Failure::check_text(format!("container {:?} is paused; resume it first", exec.id)));
        }
        status => {
            let remedy = if status == Status::Created { "; start it first" } else { "" };
            return Err(Failure::check_text(format!(
                "container not running: {:?} is {}{remedy}",
                exec.id,
                status.name()
            )));
        }
    }
    let config = super::start::saved(&entry)?;
    let process = wanted(exec, config.spec.process().as_ref(), log)?;
    config::check_process(&process)?;
    // This may start us anew: nothing that others notice may come before.
    protect::own_program(&config.spec)?;
    let console = match (&exec.console_socket, process.terminal() == Some(true)) {
        (Some(path), true) => Some(console::connect(path)?),
        (Some(_), false) => {
            return Err(Failure::check_text("--console-socket makes no sense without a terminal; add --tty"));
        }
        (None, true) if exec.detach => {
            return Err(Failure::check_text("a terminal that nobody waits at needs --console-socket"));
        }
        (None, _) => None,
    };
    // What we are, the process will be.
    shim::container::personality::set(&config.spec)?;

    let policy = ContainerPolicy::decide(&record.annotations)?;
    let seat = || Seat {
        filter: policy.filter(&create::container(&record, &config.spec)),
        preserved,
        environment: Vec::new(),
        no_new_keyring: true,
    };
    let home = Home::open(&record)?;
    let to_keeper = keeper::connect(&entry.keeper_socket())?;
    let proc = Proc::open()?;
    let (pid, channel) = launch_in(&home, &|channel| {
        let newcomer = Newcomer {
            process: &process,
            proc: &proc,
            root: home.root.as_fd(),
            keeper: to_keeper.as_fd(),
            entry: seat(),
            profile: config.seccomp.is_some(),
            cgroup: home.cgroup.as_ref().map(AsFd::as_fd),
        };
        shim::container::exec::exec(&newcomer, channel)
    })?;
    drop(to_keeper);
    let order = Order { exec, config: &config, record: &record };
    let terminal = match order.accompany(pid, channel, console, log) {
        Ok(terminal) => terminal,
        Err(failure) => {
            let _ = sys::kill(pid.as_raw(), libc::SIGKILL);
            let _ = waitpid(pid, None);
            return Err(failure);
        }
    };
    if let Some(path) = &exec.pid_file {
        create::write_pid(path, pid)?;
    }
    if exec.detach { Ok(0) } else { super::run::attend(pid, terminal) }
}

/// Starts the process in its namespaces. Whoever enters a container is looked at by what runs there already: nothing that
/// is in our memory and not needed may be read in its copy.
fn launch_in(home: &Home, child: &dyn Fn(OwnedFd) -> i32) -> Result<(Pid, OwnedFd), Failure> {
    process::hide()?;
    crate::raw::scrub_environment();
    let launched = launch::launch(&home.namespaces, &mut |_| Ok(()), child)?;
    Ok((launched.pid, launched.channel))
}

struct Order<'a> {
    exec: &'a Exec,
    config: &'a config::Config,
    record: &'a Record,
}

impl Order<'_> {
    /// Goes along with the process until it runs its program; the terminal, if nobody else wants it.
    fn accompany(
        &self,
        pid: Pid,
        channel: OwnedFd,
        console: Option<OwnedFd>,
        log: &Log,
    ) -> Result<Option<OwnedFd>, Failure> {
        if self.exec.cgroup.as_deref().is_some_and(|path| path != "/") {
            return Err(Failure::check_text("--cgroup is not supported: a process goes to the container's own cgroup"));
        }
        let mut warnings = Vec::new();
        self.record.groups.clone().enter(pid, &mut warnings)?;
        warnings.iter().for_each(|warning| log.warn(warning));
        launch::tell(channel.as_fd(), &ToContainer::Go(pid.as_raw()), None)?;
        let profile = self.config.seccomp.as_ref().map(create::compiled).transpose()?;
        let mut terminal = None;
        loop {
            match receive(channel.as_fd()) {
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Ok(Some((ToRuntime::Failed(failure), _))) => return Err(failure),
                Ok(Some((ToRuntime::Warning(text), _))) => log.warn(&text),
                Ok(Some((ToRuntime::Profile, _))) => create::send_profile(channel.as_fd(), profile.as_ref())?,
                Ok(Some((ToRuntime::Terminal, Some(master)))) => match &console {
                    Some(console) => console::send_terminal(console, &master)?,
                    None => terminal = Some(master),
                },
                // The program runs: its end was closed at exec.
                Ok(None) => return Ok(terminal),
                Ok(Some(_)) => return Err(Failure::check("understand the new process")),
                Err(errno) => return Err(Failure::new("hear from the new process", errno)),
            }
        }
    }
}

/// Where a container's processes live, as its first process shows it.
struct Home {
    namespaces: Namespaces,
    cgroup: Option<OwnedFd>,
    root: OwnedFd,
}

impl Home {
    fn open(record: &Record) -> Result<Self, Failure> {
        let gone = || Failure::check_text(format!("container not running: {:?} has stopped", record.id));
        let pid = record.pid;
        let mut namespaces = Namespaces::default();
        let mut cgroup = None;
        let kinds = [
            ("user", libc::CLONE_NEWUSER),
            ("mnt", libc::CLONE_NEWNS),
            ("pid", libc::CLONE_NEWPID),
            ("ipc", libc::CLONE_NEWIPC),
            ("uts", libc::CLONE_NEWUTS),
            ("net", libc::CLONE_NEWNET),
            ("time", libc::CLONE_NEWTIME),
            ("cgroup", libc::CLONE_NEWCGROUP),
        ];
        for (name, kind) in kinds {
            let path = format!("/proc/{pid}/ns/{name}");
            let file = match File::open(&path) {
                // An older kernel has not all of them.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && record.process().is_some() => continue,
                other => other
                    .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
                    .step(|| format!("open {path}"))?,
            };
            if is_own(&file, name) {
                continue;
            }
            if kind == libc::CLONE_NEWCGROUP {
                cgroup = Some(file.into());
            } else {
                namespaces.joined.push(Joined { kind, namespace: file.into(), name: path });
            }
        }
        let root = std::ffi::CString::new(format!("/proc/{pid}/root")).map_err(|_| gone())?;
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let root = sys::open_at(None, &root, flags, 0, 0).step(|| "open the container's root")?;
        // All of it was that process's, if it still is the same one.
        record.process().ok_or_else(gone)?;
        Ok(Self { namespaces, cgroup, root })
    }
}

fn is_own(namespace: &File, name: &str) -> bool {
    let own = std::fs::metadata(Path::new("/proc/self/ns").join(name));
    own.ok()
        .zip(namespace.metadata().ok())
        .is_some_and(|(own, other)| (own.dev(), own.ino()) == (other.dev(), other.ino()))
}

/// The process that the command line asks for: of a file, or the container's own with changes.
fn wanted(exec: &Exec, own: Option<&Process>, log: &Log) -> Result<Process, Failure> {
    let mut process = match &exec.process {
        Some(path) => read(path, log)?,
        None => {
            let mut process = own.cloned().ok_or_else(|| Failure::check_text("config.json has no process"))?;
            if exec.command.is_empty() {
                return Err(Failure::check_text("exec needs a command, or --process FILE"));
            }
            process.set_args(Some(exec.command.clone())).set_terminal(Some(exec.tty)).set_console_size(None);
            process
        }
    };
    if exec.tty {
        process.set_terminal(Some(true));
    }
    if let Some(cwd) = &exec.cwd {
        process.set_cwd(cwd.clone());
    }
    if !exec.env.is_empty() {
        let mut environment = process.env().clone().unwrap_or_default();
        environment.extend(exec.env.iter().cloned());
        process.set_env(Some(environment));
    }
    if let Some(text) = &exec.user {
        process.set_user(user(text, process.user())?);
    }
    if !exec.additional_gids.is_empty() {
        let mut user = process.user().clone();
        let mut groups = user.additional_gids().clone().unwrap_or_default();
        groups.extend(&exec.additional_gids);
        user.set_additional_gids(Some(groups));
        process.set_user(user);
    }
    if exec.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    if exec.apparmor.is_some() {
        process.set_apparmor_profile(exec.apparmor.clone());
    }
    if exec.process_label.is_some() {
        process.set_selinux_label(exec.process_label.clone());
    }
    if process.capabilities().is_none() {
        process.set_capabilities(own.and_then(|own| own.capabilities().clone()));
    }
    if process.rlimits().is_none() {
        process.set_rlimits(own.and_then(|own| own.rlimits().clone()));
    }
    if !exec.cap.is_empty() {
        let more = exec.cap.iter().map(|name| capability(name)).collect::<Result<Vec<_>, _>>()?;
        process.set_capabilities(Some(with(process.capabilities().clone().unwrap_or_default(), &more)));
    }
    Ok(process)
}

fn read(path: &Path, log: &Log) -> Result<Process, Failure> {
    let name = path.display();
    let text = std::fs::read(path)
        .map_err(|error| Failure::check_text(format!("cannot read {name}: {}", crate::policy::path::reason(&error))))?;
    let wrong = |error: serde_json::Error| Failure::check_text(format!("{name}: {error}"));
    let mut value: serde_json::Value = serde_json::from_slice(&text).map_err(wrong)?;
    shim::container::tolerate(&mut value).iter().for_each(|warning| log.warn(warning));
    serde_json::from_value(value).map_err(wrong)
}

fn user(text: &str, own: &User) -> Result<User, Failure> {
    let wrong = || Failure::check_text(format!("--user {text:?} is not UID[:GID]"));
    let (uid, gid) = text.split_once(':').map_or((text, None), |(uid, gid)| (uid, Some(gid)));
    let mut user = own.clone();
    user.set_uid(uid.parse().map_err(|_| wrong())?);
    if let Some(gid) = gid {
        user.set_gid(gid.parse().map_err(|_| wrong())?);
    }
    Ok(user)
}

fn capability(name: &str) -> Result<Capability, Failure> {
    let whole = name.to_ascii_uppercase();
    let whole = if whole.starts_with("CAP_") { whole } else { format!("CAP_{whole}") };
    serde_json::from_value(serde_json::Value::String(whole))
        .map_err(|_| Failure::check_text(format!("--cap {name:?} is not a capability")))
}

fn with(mut sets: LinuxCapabilities, more: &[Capability]) -> LinuxCapabilities {
    let grown = |set: &Option<HashSet<Capability>>| {
        let mut set = set.clone().unwrap_or_default();
        set.extend(more);
        Some(set)
    };
    let (bounding, effective, permitted) = (grown(sets.bounding()), grown(sets.effective()), grown(sets.permitted()));
    sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    sets
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_changes_the_containers_own_process() {
        let own: Process = serde_json::from_str(
            r#"{"user": {"uid": 7, "gid": 8}, "cwd": "/", "args": ["init"], "env": ["A=1"], "terminal": true,
                "capabilities": {"bounding": ["CAP_CHOWN"]}}"#,
        )
        .unwrap();
        let exec = Exec {
            command: vec!["ls".into(), "-l".into()],
            env: vec!["B=2".into()],
            user: Some("9".into()),
            cap: vec!["net_raw".into()],
            ..Exec::default()
        };
        let log = Log::new(&super::super::cli::Global::default());
        let process = wanted(&exec, Some(&own), &log).unwrap();
        assert_eq!(process.args().as_ref().unwrap(), &["ls", "-l"]);
        assert_eq!(process.env().as_ref().unwrap(), &["A=1", "B=2"]);
        assert_eq!((process.user().uid(), process.user().gid()), (9, 8));
        assert_eq!(process.terminal(), Some(false));
        assert_eq!(process.capabilities().as_ref().unwrap().bounding().as_ref().unwrap().len(), 2);
        assert!(user("root", &User::default()).is_err());
        assert!(capability("CAP_NOTHING").is_err());
    }
}
