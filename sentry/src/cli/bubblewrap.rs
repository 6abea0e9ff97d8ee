//! bubblewrap's spellings, so that a command line for `bwrap` needs little change: hidden aliases of our options.
//!
//! What bubblewrap unshares is always unshared here, so those options say nothing. What would loosen the sandbox in a way
//! that a policy cannot express is refused, never ignored.

use std::ffi::OsString;
use std::path::Path;

use anyhow::bail;
use clap::Args;

use crate::policy::layer::Layer;
use crate::policy::view::Facts;
use crate::policy::{Access, Grant, Net, Scratch, path};

/// Options that `bwrap` knows.
#[derive(Args, Debug)]
pub struct Bubblewrap {
    #[arg(long, num_args = 2, value_names = ["HOST", "BOX"], hide = true)]
    ro_bind: Vec<OsString>,
    #[arg(long, num_args = 2, value_names = ["HOST", "BOX"], hide = true)]
    ro_bind_try: Vec<OsString>,
    #[arg(long, num_args = 2, value_names = ["HOST", "BOX"], hide = true)]
    bind: Vec<OsString>,
    #[arg(long, num_args = 2, value_names = ["HOST", "BOX"], hide = true)]
    bind_try: Vec<OsString>,
    #[arg(long, num_args = 2, value_names = ["HOST", "BOX"], hide = true)]
    dev_bind: Vec<OsString>,
    #[arg(long, num_args = 2, value_names = ["HOST", "BOX"], hide = true)]
    dev_bind_try: Vec<OsString>,
    #[arg(long, num_args = 2, value_names = ["TARGET", "LINK"], hide = true)]
    symlink: Vec<OsString>,
    #[arg(long, hide = true)]
    dir: Vec<OsString>,
    #[arg(long, hide = true)]
    proc: Vec<OsString>,
    #[arg(long, hide = true)]
    dev: Vec<OsString>,
    #[arg(long, num_args = 2, value_names = ["K", "V"], hide = true)]
    setenv: Vec<OsString>,
    #[arg(long, hide = true)]
    unsetenv: Vec<OsString>,
    #[arg(long, hide = true)]
    clearenv: bool,
    #[arg(long, hide = true, conflicts_with = "workdir")]
    chdir: Option<OsString>,
    #[arg(long, hide = true)]
    share_net: bool,
    #[arg(long, hide = true)]
    uid: Option<u32>,
    #[arg(long, hide = true)]
    gid: Option<u32>,
    #[arg(long, hide = true)]
    cap_add: Vec<String>,
    #[arg(long, hide = true)]
    cap_drop: Vec<String>,
    #[arg(long, hide = true)]
    unshare_all: bool,
    #[arg(long, hide = true)]
    unshare_user: bool,
    #[arg(long, hide = true)]
    unshare_user_try: bool,
    #[arg(long, hide = true)]
    unshare_pid: bool,
    #[arg(long, hide = true)]
    unshare_net: bool,
    #[arg(long, hide = true)]
    unshare_ipc: bool,
    #[arg(long, hide = true)]
    unshare_uts: bool,
    #[arg(long, hide = true)]
    unshare_cgroup: bool,
    #[arg(long, hide = true)]
    unshare_cgroup_try: bool,
    #[arg(long, hide = true)]
    die_with_parent: bool,
    #[arg(long, hide = true)]
    new_session: bool,
}

impl Bubblewrap {
    /// Says the same in a layer.
    pub fn add_to(&self, layer: &mut Layer, facts: &Facts) -> anyhow::Result<()> {
        let binds = [
            (&self.ro_bind, Access::Read, false),
            (&self.ro_bind_try, Access::Read, true),
            (&self.bind, Access::Write, false),
            (&self.bind_try, Access::Write, true),
        ];
        for (pairs, access, optional) in binds {
            for pair in pairs.chunks_exact(2) {
                let mut grant = Grant::placed(&pair[0], &pair[1], access)?;
                grant.host = path::absolute(&facts.cwd, &grant.host);
                grant.optional = optional;
                if is_default(&grant) {
                    continue;
                }
                layer.grants.push(grant);
            }
        }
        if !self.dev_bind.is_empty() || !self.dev_bind_try.is_empty() {
            bail!("--dev-bind would give devices of the host away; the sandbox has harmless ones of its own, leave it out");
        }
        for pair in self.symlink.chunks_exact(2) {
            let link = pair[1].to_string_lossy();
            if !crate::policy::view::SYSTEM.contains(&link.as_ref()) {
                bail!("--symlink {link} is not supported; show the path itself with --volume HOST:{link}");
            }
        }
        for directory in &self.dir {
            layer.scratch.push(Scratch { inside: path::inside(&facts.cwd, Path::new(directory))?, size: None });
        }
        for (given, only) in [(&self.proc, "/proc"), (&self.dev, "/dev")] {
            if let Some(other) = given.iter().find(|place| *place != only) {
                bail!("{only} cannot be put at {}; it is always at {only}, leave the option out", other.display());
            }
        }
        for pair in self.setenv.chunks_exact(2) {
            layer.environment.set.push((pair[0].clone(), Some(pair[1].clone())));
        }
        layer.environment.unset.extend(self.unsetenv.iter().cloned());
        layer.environment.clear |= self.clearenv;
        if let Some(directory) = &self.chdir {
            layer.workdir = Some(path::inside(&facts.cwd, Path::new(directory))?);
        }
        if self.share_net {
            layer.net = Some(Net::All);
        }
        let own = (nix::unistd::Uid::current().as_raw(), nix::unistd::Gid::current().as_raw());
        if self.uid.is_some_and(|uid| uid != own.0) || self.gid.is_some_and(|gid| gid != own.1) {
            bail!("--uid and --gid can only be your own ({} and {}); leave them out", own.0, own.1);
        }
        if let Some(capability) = self.cap_add.first() {
            bail!("--cap-add {capability} is refused: no program in the sandbox has any capability; leave it out");
        }
        Ok(())
    }
}

/// `--ro-bind /usr /usr` and the like repeat what the default view has.
fn is_default(grant: &Grant) -> bool {
    let system = crate::policy::view::SYSTEM.iter().any(|system| *system != "/etc" && grant.inside == Path::new(system));
    grant.access == Access::Read && grant.host == grant.inside && system
}
