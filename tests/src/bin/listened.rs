//! Runs a program below a seccomp listener, as another sandbox would: `listened [--asks NUMBER] -- PROGRAM [ARGUMENT]...`.
//!
//! A process tree has one listener, and this is it. It is asked about one call or about none, and lets it run.

use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;

use nix::errno::Errno;
use sentry_tests::listener::{is_hung_up, let_it_run, receive};
use syscalls::filter::{Instruction, ret};

fn main() -> anyhow::Result<()> {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let end = words.iter().position(|word| word == "--").ok_or_else(|| anyhow::anyhow!("there is no --"))?;
    let asks = words.get(1).filter(|_| end == 2).and_then(|number| number.to_str()?.parse().ok()).unwrap_or(u32::MAX);
    let step = |code, jf, k| Instruction { code, jt: 0, jf, k };
    let filter = [step(0x20, 0, 0), step(0x15, 1, asks), step(0x06, 0, ret::USER_NOTIF), step(0x06, 0, ret::ALLOW)];
    shim::sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;
    let listener = shim::sys::load_filter(&filter, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
    let listener = listener.ok_or_else(|| anyhow::anyhow!("there is no listener"))?;
    std::thread::spawn(move || listen(&listener));
    let status = Command::new(&words[end + 1]).args(&words[end + 2..]).status()?;
    std::process::exit(status.code().unwrap_or(128));
}

fn listen(listener: &OwnedFd) {
    loop {
        match receive(listener.as_fd()) {
            Ok(id) => drop(let_it_run(listener.as_fd(), id)),
            Err(Errno::EINTR) => {}
            Err(Errno::ENOENT) if !is_hung_up(listener.as_fd()) => {}
            Err(_) => return,
        }
    }
}
