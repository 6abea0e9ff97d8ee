//! Facts about the host and its user.

use std::path::PathBuf;

use nix::errno::Errno;
use shim::failure::Failure;

use crate::policy::view::Facts;

/// Where the user is and lives. `HOME` counts if it is absolute, as everywhere; otherwise the passwd entry does, read
/// without name services, which a static program must not load.
pub fn user_facts() -> Result<Facts, Failure> {
    let cwd = std::env::current_dir().map_err(|error| {
        Failure::new("find the current directory", Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::ENOENT)))
            .remedy("it was removed or may not be entered; change to another one first")
    })?;
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let home = home.or_else(passwd_home).unwrap_or_else(|| PathBuf::from("/"));
    let real_home = home.canonicalize().unwrap_or_else(|_| home.clone());
    Ok(Facts { cwd, home, real_home })
}

fn passwd_home() -> Option<PathBuf> {
    let uid = nix::unistd::Uid::current().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    let mut entries = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let entry = entries.find(|fields| fields.get(2) == Some(&uid.as_str()))?;
    entry.get(5).map(PathBuf::from).filter(|home| home.is_absolute())
}
