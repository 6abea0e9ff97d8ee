//! Hooks: programs of the host that an engine wants to be run at certain moments of a container's life.
//!
//! Each gets the container's state on its standard input. What it writes is kept in memory and shown if it fails: a pipe
//! that a hook's daemon holds open would hang us.

use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_spec::runtime::Hook;

use crate::failure::{Failure, Step};
use crate::sys;

/// Runs `hooks` in order, up to the first that fails. `kind` is their name in config.json.
pub fn run(hooks: Option<&Vec<Hook>>, kind: &str, state: &[u8]) -> Result<(), Failure> {
    for hook in hooks.into_iter().flatten() {
        one(hook, kind, state)?;
    }
    Ok(())
}

/// Runs all of them; returns what went wrong. For those whose failure changes nothing any more.
pub fn run_all(hooks: Option<&Vec<Hook>>, kind: &str, state: &[u8]) -> Vec<Failure> {
    hooks.into_iter().flatten().filter_map(|hook| one(hook, kind, state).err()).collect()
}

fn one(hook: &Hook, kind: &str, state: &[u8]) -> Result<(), Failure> {
    let name = hook.path().display();
    let step = || format!("run the {kind} hook {name}");
    let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO));
    let mut said = std::fs::File::from(memfd_create(c"hook", MFdFlags::MFD_CLOEXEC).step(step)?);
    let output = || said.try_clone().map(Stdio::from).map_err(errno).step(step);
    let mut command = Command::new(hook.path());
    if let Some((first, rest)) = hook.args().as_ref().and_then(|args| args.split_first()) {
        command.arg0(first).args(rest);
    }
    command.env_clear().stdin(Stdio::piped()).stdout(output()?).stderr(output()?);
    for variable in hook.env().iter().flatten() {
        if let Some((name, value)) = variable.split_once('=') {
            command.env(name, value);
        }
    }
    let mut child = command.spawn().map_err(errno).step(step)?;
    if let Some(mut input) = child.stdin.take() {
        // A hook that does not read it is no worse for that.
        let _ = input.write_all(state);
    }
    let limit = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    if let Some(limit) = limit
        && !ends_within(&child, limit).step(step)?
    {
        let _ = child.kill();
        let _ = child.wait();
        return Err(Failure::check_text(format!("the {kind} hook {name} did not end within {} s", limit.as_secs())));
    }
    let status = child.wait().map_err(errno).step(step)?;
    if status.success() {
        return Ok(());
    }
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with {code}"),
        (_, Some(signal)) => format!("was killed by signal {signal}"),
        _ => "failed".to_owned(),
    };
    let mut text = String::new();
    let _ = said.rewind();
    let _ = said.take(4096).read_to_string(&mut text);
    let text = text.trim();
    let text = if text.is_empty() { String::new() } else { format!(": {text}") };
    Err(Failure::check_text(format!("the {kind} hook {name} {how}{text}")))
}

fn ends_within(child: &std::process::Child, limit: Duration) -> Result<bool, Errno> {
    let process = sys::open_process(child.id().cast_signed())?;
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], timeout) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) => {}
            Ok(_) => return Ok(true),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn hook(text: &str) -> Vec<Hook> {
        vec![serde_json::from_str(text).unwrap()]
    }

    #[test]
    fn a_hook_gets_the_state_and_its_environment() {
        let script = r#"{"path": "/bin/sh", "args": ["sh", "-c", "read -r line; test \"$line\" = \"{}$NAME\""], "env": ["NAME=x"]}"#;
        run(Some(&hook(script)), "poststart", b"{}x\n").unwrap();
    }

    #[test]
    fn what_a_failing_hook_said_is_told() {
        let script = r#"{"path": "/bin/sh", "args": ["sh", "-c", "echo no luck >&2; exit 3"]}"#;
        let failure = run(Some(&hook(script)), "prestart", b"{}").unwrap_err();
        assert_eq!(failure.to_string(), "the prestart hook /bin/sh ended with 3: no luck");
    }

    #[test]
    fn a_hook_that_takes_too_long_is_ended() {
        let script = r#"{"path": "/bin/sleep", "args": ["sleep", "60"], "timeout": 1}"#;
        let failure = run(Some(&hook(script)), "prestart", b"{}").unwrap_err();
        assert!(failure.to_string().contains("did not end within 1 s"), "{failure}");
    }
}
