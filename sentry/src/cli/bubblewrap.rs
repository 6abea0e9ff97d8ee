//! The spellings of bubblewrap, for scripts that have them: hidden from help, never weaker than what they ask for.
//!
//! What asks for less than we give anyway is accepted, what we cannot give is refused with the reason. Unlike there,
//! the order of options does not matter, and the command comes after `--`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::Args;
use nix::unistd::{Gid, Uid};

use crate::policy::layer::Layer;
use crate::policy::path::{absolute, check_bytes, inside, shown};
use crate::policy::view::{Facts, SYSTEM};
use crate::policy::{Access, Error, Grant, Net, Scratch};

/// Options that bubblewrap has and we spell differently, or need not have.
#[derive(Args, Debug, Default)]
pub(crate) struct Bubblewrap {
    #[arg(long, num_args = 2, hide = true)]
    pub ro_bind: Vec<OsString>,
    #[arg(long, num_args = 2, hide = true)]
    pub ro_bind_try: Vec<OsString>,
    #[arg(long, num_args = 2, hide = true)]
    pub bind: Vec<OsString>,
    #[arg(long, num_args = 2, hide = true)]
    pub bind_try: Vec<OsString>,
    #[arg(long, num_args = 2, hide = true)]
    pub dev_bind: Vec<OsString>,
    #[arg(long, num_args = 2, hide = true)]
    pub dev_bind_try: Vec<OsString>,
    #[arg(long, num_args = 2, hide = true)]
    pub symlink: Vec<OsString>,
    #[arg(long, hide = true)]
    pub dir: Vec<PathBuf>,
    #[arg(long, hide = true)]
    pub proc: Vec<PathBuf>,
    #[arg(long, hide = true)]
    pub dev: Vec<PathBuf>,
    #[arg(long, num_args = 2, hide = true)]
    pub setenv: Vec<OsString>,
    #[arg(long, hide = true)]
    pub unsetenv: Vec<OsString>,
    #[arg(long, hide = true, conflicts_with = "env_all")]
    pub clearenv: bool,
    #[arg(long, hide = true)]
    pub uid: Option<u32>,
    #[arg(long, hide = true)]
    pub gid: Option<u32>,
    #[arg(long, hide = true)]
    pub cap_drop: Vec<String>,
    #[arg(long, hide = true)]
    pub cap_add: Vec<String>,
    #[arg(long, hide = true, conflicts_with = "net")]
    pub share_net: bool,
    #[arg(long, hide = true)]
    pub unshare_all: bool,
    #[arg(long, hide = true)]
    pub unshare_user: bool,
    #[arg(long, hide = true)]
    pub unshare_user_try: bool,
    #[arg(long, hide = true)]
    pub unshare_pid: bool,
    #[arg(long, hide = true, conflicts_with = "net")]
    pub unshare_net: bool,
    #[arg(long, hide = true)]
    pub unshare_ipc: bool,
    #[arg(long, hide = true)]
    pub unshare_uts: bool,
    #[arg(long, hide = true)]
    pub unshare_cgroup: bool,
    #[arg(long, hide = true)]
    pub unshare_cgroup_try: bool,
    #[arg(long, hide = true)]
    pub die_with_parent: bool,
    #[arg(long, hide = true)]
    pub new_session: bool,
}

/// Links that make a merged `/usr` look like an old system: our view has them already.
const LINKS: [(&str, &str); 6] = [
    ("usr/bin", "/bin"),
    ("usr/sbin", "/sbin"),
    ("usr/bin", "/sbin"),
    ("usr/lib", "/lib"),
    ("usr/lib32", "/lib32"),
    ("usr/lib64", "/lib64"),
];

impl Bubblewrap {
    /// Adds what these options mean to `layer`.
    pub fn add_to(self, layer: &mut Layer, facts: &Facts) -> Result<(), Error> {
        self.refuse_what_we_cannot_give(Uid::current().as_raw(), Gid::current().as_raw())?;

        let binds = [
            (&self.ro_bind, Access::Read, false),
            (&self.ro_bind_try, Access::Read, true),
            (&self.bind, Access::Write, false),
            (&self.bind_try, Access::Write, true),
        ];
        for (pairs, access, optional) in binds {
            for (host, place) in in_pairs(pairs) {
                check_bytes(host)?;
                let host = absolute(&facts.cwd, Path::new(host));
                let inside = inside(Path::new("/"), Path::new(place))?;
                // The way to show the whole host there; we have an option of its own for that.
                if host == inside && access == Access::Read && is_default(&inside) {
                    continue;
                }
                if inside == Path::new("/") && access == Access::Read {
                    layer.root = Some(host);
                } else {
                    layer.grants.push(Grant { host, inside, access, optional });
                }
            }
        }
        for directory in &self.dir {
            layer.scratch.push(Scratch { inside: inside(&facts.cwd, directory)?, size: None });
        }
        for (name, value) in in_pairs(&self.setenv) {
            layer.environment.set.push((name.to_owned(), Some(value.to_owned())));
        }
        layer.environment.unset.extend(self.unsetenv);
        layer.environment.clear |= self.clearenv;
        if self.share_net {
            layer.net = Some(Net::All);
        } else if self.unshare_net || self.unshare_all {
            layer.net = layer.net.or(Some(Net::None));
        }
        Ok(())
    }

    fn refuse_what_we_cannot_give(&self, uid: u32, gid: u32) -> Result<(), Error> {
        if let Some((host, _)) = in_pairs(&self.dev_bind).chain(in_pairs(&self.dev_bind_try)).next() {
            let message = format!("--dev-bind {}: devices of the host are never granted", shown(Path::new(host)));
            return Err(Error::new(message, "use --bind or --ro-bind; the sandbox has a /dev of its own"));
        }
        for (option, given, own) in [("--proc", &self.proc, "/proc"), ("--dev", &self.dev, "/dev")] {
            if let Some(other) = given.iter().find(|path| *path != Path::new(own)) {
                let message = format!("{option} {}: the sandbox has its own {own}, there only", shown(other));
                return Err(Error::new(message, "leave the option out"));
            }
        }
        for (target, link) in in_pairs(&self.symlink) {
            if !LINKS.iter().any(|(known, place)| target == *known && link == *place) {
                let message = format!("--symlink {}: this version makes no links", shown(Path::new(link)));
                return Err(Error::new(message, "show the target there with --volume HOST:BOX"));
            }
        }
        for (option, given, own) in [("--uid", self.uid, uid), ("--gid", self.gid, gid)] {
            if let Some(other) = given.filter(|given| *given != own) {
                let message = format!("{option} {other}: the program keeps the id of whoever starts it, {own}");
                return Err(Error::new(message, "leave the option out"));
            }
        }
        match self.cap_add.first() {
            Some(capability) => {
                let message = format!("--cap-add {capability}: a sandboxed program has no capabilities");
                Err(Error::new(message, "leave the option out"))
            }
            None => Ok(()),
        }
    }
}

/// `--ro-bind /usr /usr` and the like repeat what the default view has.
fn is_default(path: &Path) -> bool {
    SYSTEM.iter().any(|system| *system != "/etc" && path == Path::new(system))
}

/// The values of an option that takes two, which clap hands over in a row.
fn in_pairs(values: &[OsString]) -> impl Iterator<Item = (&OsStr, &OsStr)> {
    values.chunks_exact(2).map(|pair| (pair[0].as_os_str(), pair[1].as_os_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(options: Bubblewrap) -> String {
        options.refuse_what_we_cannot_give(1000, 1000).unwrap_err().to_string()
    }

    #[test]
    fn what_we_cannot_give_is_refused_with_the_reason() {
        let pair = |one: &str, other: &str| vec![OsString::from(one), OsString::from(other)];
        let none = Bubblewrap::default;
        assert!(refusal(Bubblewrap { dev_bind: pair("/dev", "/dev"), ..none() }).contains("devices"));
        assert!(refusal(Bubblewrap { symlink: pair("/etc/shadow", "/x"), ..none() }).contains("links"));
        assert!(refusal(Bubblewrap { proc: vec!["/p".into()], ..none() }).contains("own /proc"));
        assert!(refusal(Bubblewrap { dev: vec!["/d".into()], ..none() }).contains("own /dev"));
        assert!(refusal(Bubblewrap { uid: Some(0), ..none() }).contains("--uid 0"));
        assert!(refusal(Bubblewrap { gid: Some(0), ..none() }).contains("--gid 0"));
        assert!(refusal(Bubblewrap { cap_add: vec!["ALL".into()], ..none() }).contains("no capabilities"));

        let accepted = Bubblewrap {
            symlink: pair("usr/lib", "/lib"),
            proc: vec!["/proc".into()],
            dev: vec!["/dev".into()],
            uid: Some(1000),
            gid: Some(1000),
            cap_drop: vec!["ALL".into()],
            ..none()
        };
        assert_eq!(accepted.refuse_what_we_cannot_give(1000, 1000), Ok(()));
    }
}
