//! Tries rows on a directory of their own: what the filter says, and what the handler does.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use crate::args::Width;
use crate::dispatch::Handler;
use crate::fake::FakeGuest;
use crate::reply::{Answer, Reply};
use crate::rules::Rules;
use crate::table::{Feature, Op, Route, Surface, Syscall, Verdict, find};

/// `AT_FDCWD` as a register holds it, with rubbish above.
pub(crate) const CWD: u64 = 0xdead_beef_ffff_ff9c;

/// A guest in a directory, under rules about names.
pub(crate) struct Trial {
    pub(crate) guest: FakeGuest,
    pub(crate) root: PathBuf,
    features: Vec<Feature>,
    _dir: TempDir,
}

impl Trial {
    /// The names in `protected` must stay absent.
    pub(crate) fn new(protected: &[&str]) -> Self {
        // As every thread of the sentry that may sleep: its own working directory and umask.
        unshare(CloneFlags::CLONE_FS).unwrap();
        let dir = TempDir::new().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let mut guest = FakeGuest::in_directory(&root);
        guest.rules = Rules { protected: protected.iter().map(|name| root.join(name)).collect(), ..Rules::default() };
        Self { guest, root, features: vec![Feature::ProtectedNames], _dir: dir }
    }

    /// The same under another feature.
    pub(crate) fn with(feature: Feature) -> Self {
        let mut trial = Self { features: vec![feature], ..Self::new(&[]) };
        if feature == Feature::FakeRoot {
            // What it implies.
            trial.features.extend([Feature::PathCalls, Feature::PathRules]);
            trial.guest.rules.fake_root = true;
        }
        trial.guest.rules.trace = feature == Feature::TracePaths;
        trial.guest.rules.judge_sockets = feature == Feature::SocketGrants;
        trial
    }

    /// Puts a path into the guest's memory and returns its address.
    pub(crate) fn path(&self, path: impl AsRef<OsStr>) -> u64 {
        self.guest.put_path(path).0
    }

    /// Makes the call as if the filter had notified us of it.
    pub(crate) fn call(&self, name: &str, args: &[u64]) -> Answer {
        match route(name, &self.features).handler {
            Some(Handler::Emulate(handler) | Handler::EmulateSlow(handler)) => handler(&self.guest, registers(args)),
            other => panic!("{name} is not emulated but {other:?}"),
        }
    }

    /// Lets an observer look at the call.
    pub(crate) fn observe(&self, name: &str, args: &[u64]) {
        match route(name, &self.features).handler {
            Some(Handler::Observe(handler)) => handler(&self.guest, registers(args)),
            other => panic!("{name} is not observed but {other:?}"),
        }
    }

    /// The call's errno; [`DONE`] if it succeeded.
    pub(crate) fn errno(&self, name: &str, args: &[u64]) -> Errno {
        self.call(name, args).err().unwrap_or(DONE)
    }

    /// The file that the call hands over.
    pub(crate) fn opened(&self, name: &str, args: &[u64]) -> OwnedFd {
        match self.call(name, args) {
            Ok(Reply::Inject { file, .. }) => file,
            other => panic!("{name} opened nothing: {other:?}"),
        }
    }

    pub(crate) fn write(&self, name: &str, contents: &str) {
        fs::write(self.root.join(name), contents).unwrap();
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.root.join(name).symlink_metadata().is_ok()
    }

    pub(crate) fn mode(&self, name: &str) -> u32 {
        use std::os::unix::fs::MetadataExt;
        self.root.join(name).symlink_metadata().unwrap().mode() & 0o7777
    }

    /// What was recorded: the calls and what they were about, relative to the directory.
    pub(crate) fn denied(&self) -> Vec<(&'static str, String)> {
        let short = |what: &str| {
            Path::new(what).strip_prefix(&self.root).map_or(what.to_owned(), |path| path.to_string_lossy().into_owned())
        };
        self.guest.denials().iter().map(|denial| (denial.call, short(&denial.what))).collect()
    }
}

/// In place of an errno: the call succeeded.
pub(crate) const DONE: Errno = Errno::UnknownErrno;

/// What the filter says of a call under a policy with these features.
pub(crate) fn verdict(name: &str, features: &[Feature], args: &[u64]) -> Verdict {
    let (row, route, args) = (row(name), route(name, features), registers(args));
    let holds = |arg: usize, op: Op| {
        let value = match row.parameters[arg].width {
            Width::W32 => args[arg] & 0xffff_ffff,
            Width::W64 => args[arg],
        };
        match op {
            Op::Equal(x) => value == x,
            Op::NotEqual(x) => value != x,
            Op::Masked { mask, value: x } => value & mask == x,
            Op::AnyOf(mask) => value & mask != 0,
            Op::Greater(x) => value > x,
        }
    };
    let check = route.checks.iter().find(|check| check.all.iter().all(|test| holds(test.arg, test.op)));
    check.map_or(route.otherwise, |check| check.then)
}

/// All that can be read from `file`.
pub(crate) fn contents(file: OwnedFd) -> String {
    let mut text = String::new();
    fs::File::from(file).read_to_string(&mut text).unwrap();
    text
}

fn row(name: &str) -> &'static Syscall {
    find(name).unwrap_or_else(|| panic!("no row {name}"))
}

fn route(name: &str, features: &[Feature]) -> Route {
    row(name).route_with(Surface::Compat, features)
}

fn registers(args: &[u64]) -> [u64; 6] {
    let mut registers = [0; 6];
    registers[..args.len()].copy_from_slice(args);
    registers
}
