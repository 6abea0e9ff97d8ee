//! The part of a runtime: namespaces, a fork, and into the container.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::ExitCode;

use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::unistd::{Gid, Pid, Uid};
use oci_spec::runtime::Spec;
use shim::container::program::Program;
use shim::container::{Context, ProcessContext, become_process, prepare, sources};
use shim::failure::{Failure, Step};
use shim::sys;

/// The number of a descriptor of the bundle's directory, which stands for the host.
pub const HOST: i32 = 99;

/// Makes the container of a bundle and runs its program.
pub fn run(bundle: &Path, user_namespace: bool) -> ExitCode {
    let spec: Spec = serde_json::from_str(&fs::read_to_string(bundle.join("config.json")).unwrap()).unwrap();
    match start(&spec, bundle, user_namespace) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            println!("FAILED: {failure}");
            ExitCode::from(125)
        }
    }
}

fn start(spec: &Spec, bundle: &Path, user_namespace: bool) -> Result<u8, Failure> {
    let mut flags =
        libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;
    let has = |kind| shim::container::has_namespace(spec, kind);
    if has(oci_spec::runtime::LinuxNamespaceType::Network) {
        flags |= libc::CLONE_NEWNET;
    }
    if annotated(spec, "shared-host") {
        sys::unshare(libc::CLONE_NEWNS).step(|| "make the host's mounts our own")?;
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SHARED, none).step(|| "share the host's mounts")?;
    }
    let made = sources(spec, bundle)?;
    if user_namespace {
        flags |= libc::CLONE_NEWUSER;
    }
    let (uid, gid) = (Uid::current(), Gid::current());
    sys::unshare(flags).step(|| "make namespaces")?;
    if user_namespace {
        fs::write("/proc/self/setgroups", "deny").unwrap();
        fs::write("/proc/self/uid_map", format!("0 {uid} 1")).unwrap();
        fs::write("/proc/self/gid_map", format!("0 {gid} 1")).unwrap();
    }
    let Some(pid) = sys::clone(0).step(|| "fork")? else {
        let failure = inner(spec, bundle, made).expect_err("the program runs");
        println!("FAILED: {failure}");
        sys::exit_now(125);
    };
    let mut status = 0;
    drop(made);
    let _ = &mut status;
    match nix::sys::wait::waitpid(Pid::from_raw(pid), None) {
        Ok(nix::sys::wait::WaitStatus::Exited(_, code)) => Ok(u8::try_from(code).unwrap_or(255)),
        other => Err(Failure::check(format!("wait: {other:?}"))),
    }
}

fn annotated(spec: &Spec, name: &str) -> bool {
    spec.annotations().as_ref().is_some_and(|all| all.contains_key(name))
}

fn inner(spec: &Spec, bundle: &Path, sources: Vec<(usize, std::os::fd::OwnedFd)>) -> Result<(), Failure> {
    let process = spec.process().clone().unwrap();
    let context = Context {
        rootfs: bundle.join(spec.root().as_ref().unwrap().path()),
        terminal: process.terminal().unwrap_or(false),
        no_pivot: annotated(spec, "no-pivot"),
        sources,
        ..Context::default()
    };
    // What a runtime may still hold of the host.
    let host = fs::File::open(bundle).unwrap();
    sys::place_descriptor(host.as_raw_fd(), HOST).step(|| "hold a directory of the host")?;
    let prepared = prepare(spec, bundle, &context, &mut || Ok(()))?;
    for warning in &prepared.warnings {
        println!("WARNING: {warning}");
    }
    let own = ProcessContext { proc: &prepared.proc, no_new_keyring: false };
    let mut loads = 0;
    for warning in become_process(&process, own, &mut || {
        loads += 1;
        Ok(())
    })? {
        println!("WARNING: {warning}");
    }
    assert_eq!(loads, 1, "filters are loaded once");
    use std::io::Write;
    std::io::stdout().flush().unwrap();
    Err(Program::new(&process, &[])?.run())
}
