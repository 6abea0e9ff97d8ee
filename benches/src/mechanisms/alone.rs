//! A measurement in a process of its own.

use std::io::{self, Read};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, setpgid};

/// Runs `measure` in a forked process in a group of its own and returns what it measured. It and all of its group are killed
/// when it has not answered within `limit`, or when it has. The caller has one thread.
pub fn measured(limit: Duration, measure: impl FnOnce() -> io::Result<f64>) -> io::Result<f64> {
    let (mut reader, writer) = io::pipe()?;
    match super::sys::fork()? {
        ForkResult::Child => {
            drop(reader);
            let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
            super::sys::die_with_parent();
            let answer = match measure() {
                Ok(value) => format!("+{value}"),
                Err(error) => format!("-{error}"),
            };
            // Nothing but write(2), which every filter here lets pass.
            super::sys::answer_and_exit(&writer, answer.as_bytes())
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let _ = setpgid(child, child);
            let mut waiting = [PollFd::new(std::os::fd::AsFd::as_fd(&reader), PollFlags::POLLIN)];
            let ready = loop {
                match poll(&mut waiting, PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX)) {
                    Err(Errno::EINTR) => {}
                    other => break other?,
                }
            };
            let mut text = String::new();
            if ready > 0 {
                let mut buffer = [0; 4096];
                let length = reader.read(&mut buffer)?;
                text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            }
            let _ = killpg(child, Signal::SIGKILL);
            let status = waitpid(child, None)?;
            if ready == 0 {
                return Err(io::Error::other(format!("took longer than {} s", limit.as_secs())));
            }
            match text.split_at_checked(1) {
                Some(("+", number)) => number.parse().map_err(|_| io::Error::other("what it measured is no number")),
                Some(("-", error)) => Err(io::Error::other(error.to_owned())),
                _ => Err(io::Error::other(format!("it ended without an answer: {status:?}"))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    #[test]
    fn what_it_measures_or_complains_of_comes_back() {
        assert_eq!(measured(LIMIT, || Ok(12.5)).unwrap(), 12.5);
        let error = measured(LIMIT, || Err(io::Error::other("no such thing"))).unwrap_err();
        assert_eq!(error.to_string(), "no such thing");
    }

    #[test]
    fn what_crashes_or_hangs_is_an_error() {
        assert!(measured(LIMIT, || std::process::abort()).unwrap_err().to_string().contains("without an answer"));
        let hang = || loop {
            std::thread::sleep(LIMIT);
        };
        assert!(measured(Duration::from_millis(100), hang).unwrap_err().to_string().contains("took longer"));
    }
}
