//! Provisional.
use std::os::fd::BorrowedFd;
use std::path::Path;

use nix::mount::{MsFlags, mount, umount2, MntFlags};
use nix::unistd::{Gid, Uid, chdir, pivot_root, setresgid, setresuid};
use oci_spec::runtime::{Process, Spec};

use crate::failure::{Failure, Step};

pub fn prepare(
    spec: &Spec,
    bundle: &Path,
    _no_pivot: bool,
    _channel: BorrowedFd,
    before_pivot: &mut dyn FnMut() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let none = None::<&Path>;
    let root = spec.root().as_ref().map(|root| bundle.join(root.path())).unwrap_or_default();
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).step(|| "slave")?;
    mount(Some(&root), &root, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).step(|| "bind")?;
    for entry in spec.mounts().iter().flatten() {
        let target = root.join(entry.destination().strip_prefix("/").unwrap_or(entry.destination()));
        let _ = std::fs::create_dir_all(&target);
        let kind = entry.typ().as_deref().unwrap_or("bind");
        let options = entry.options().clone().unwrap_or_default();
        if kind == "bind" || kind == "none" {
            let _ = mount(entry.source().as_deref(), &target, none, MsFlags::MS_BIND | MsFlags::MS_REC, none);
            continue;
        }
        let data = options.iter().filter(|o| o.contains('=')).cloned().collect::<Vec<_>>().join(",");
        let _ = mount(Some(kind), &target, Some(kind), MsFlags::empty(), Some(data.as_str()))
            .step(|| format!("mount {kind}"));
    }
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let target = root.join("dev").join(name);
        let _ = std::fs::File::create(&target);
        let _ = mount(Some(&Path::new("/dev").join(name)), &target, none, MsFlags::MS_BIND, none);
    }
    before_pivot()?;
    chdir(&root).step(|| "chdir")?;
    pivot_root(".", ".").step(|| "pivot")?;
    umount2(".", MntFlags::MNT_DETACH).step(|| "detach")?;
    chdir("/").step(|| "chdir")
}

pub fn become_process(
    process: &Process,
    _no_new_keyring: bool,
    load: &mut dyn FnMut() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (u, g) = (Uid::from_raw(process.user().uid()), Gid::from_raw(process.user().gid()));
    load()?;
    setresgid(g, g, g).step(|| "gid")?;
    setresuid(u, u, u).step(|| "uid")?;
    chdir(process.cwd()).step(|| "cwd")
}
