//! `start`: lets the container's first process go on, and hears whether it could.

use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use shim::container::hooks;
use shim::container::process::WARNING;
use shim::failure::{Failure, Step};
use shim::keeper;

use super::config::Config;
use super::log::Log;
use super::state::{Entry, Status, Store};

/// Starts the container `id`.
pub fn start(store: &Store, id: &str, log: &Log) -> Result<(), Failure> {
    let entry = store.find(id)?;
    let lock = entry.lock()?;
    let record = entry.read()?;
    let status = entry.status(&record);
    if status != Status::Created {
        return Err(Failure::check_text(format!(
            "cannot start container {id:?}: it is {}, not created",
            status.name()
        )));
    }
    go(&entry, log)?;
    // A hook may call us about this container.
    drop(lock);
    let config = saved(&entry)?;
    let hooks = config.spec.hooks().as_ref().and_then(|hooks| hooks.poststart().as_ref());
    let state = record.state("running", record.pid).to_string();
    for failure in hooks::run_all(hooks, "poststart", state.as_bytes()) {
        log.warn(&failure.to_string());
    }
    Ok(())
}

/// The configuration that a container was made with.
pub fn saved(entry: &Entry) -> Result<Config, Failure> {
    super::config::load(&entry.path, std::path::Path::new("config.json")).or_else(|_| {
        // Its root may be gone by now, which is nobody's concern.
        let text = std::fs::read(entry.file("config.json"))
            .map_err(|_| Failure::check_text(format!("container {:?} has lost its configuration", entry.id)))?;
        super::config::parse(text)
    })
}

fn go(entry: &Entry, log: &Log) -> Result<(), Failure> {
    let step = || format!("start container {:?}", entry.id);
    let path = entry.start_socket();
    let channel = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).step(step)?;
    keeper::within(&path, |short| connect(channel.as_raw_fd(), &UnixAddr::new(short)?)).step(step)?;
    // Its end closes when the program runs; before that only a reason comes why it does not.
    loop {
        let (answer, _) = keeper::receive(channel.as_fd()).step(step)?;
        let _ = std::fs::remove_file(&path);
        let answer = String::from_utf8_lossy(&answer);
        match answer.strip_prefix(WARNING) {
            Some(warning) => log.warn(warning),
            None if answer.is_empty() => return Ok(()),
            None => return Err(Failure::check_text(answer)),
        }
    }
}
