//! Which variables the guest gets.
//!
//! Environments are full of secrets: tokens, agent sockets, cloud credentials. So the guest gets an allow-list of
//! names that programs need to behave, and whatever else the user names.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use hashbrown::HashMap;

use super::{Environment, Error};

/// What is passed on without being asked for. `TMPDIR` is not: it names a directory outside the view.
const ALLOWED: &[&str] = &[
    "PATH",
    "TERM",
    "COLORTERM",
    "LANG",
    "LANGUAGE",
    "TZ",
    "SHELL",
    "NO_COLOR",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "FORCE_COLOR",
    "COLUMNS",
    "LINES",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "LESS",
];

/// Where programs are looked for when the caller has no opinion.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The final variables of a guest who is called `user` and lives in `home`, in the order of the caller's. A name that
/// was set explicitly wins over everything, `HOME` included.
pub fn compose(
    rules: &Environment,
    caller: impl IntoIterator<Item = (OsString, OsString)>,
    user: &OsStr,
    home: &Path,
) -> Vec<(OsString, OsString)> {
    let caller: Vec<(OsString, OsString)> = caller.into_iter().filter(|(name, _)| check_name(name).is_ok()).collect();
    let mut variables = Variables::default();

    if !rules.clear {
        for (name, value) in &caller {
            if rules.inherit_all || is_allowed(name) {
                variables.set(name.clone(), value.clone());
            }
        }
        if !variables.has("PATH") {
            variables.set("PATH".into(), DEFAULT_PATH.into());
        }
        variables.set("HOME".into(), home.into());
        variables.set("USER".into(), user.to_owned());
        variables.set("LOGNAME".into(), user.to_owned());
    }
    for name in &rules.unset {
        variables.remove(name);
    }
    for (name, value) in &rules.set {
        let from_caller = || caller.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        if let Some(value) = value.clone().or_else(from_caller) {
            variables.set(name.clone(), value);
        }
    }
    variables.order
}

/// Where root's own programs are, which are not in the paths of ordinary users.
const ROOTS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Lets root find root's programs, unless somebody said where to look.
pub fn add_roots_directories(rules: &Environment, variables: &mut [(OsString, OsString)]) {
    if rules.set.iter().any(|(name, value)| name == "PATH" && value.is_some()) {
        return;
    }
    let Some((_, path)) = variables.iter_mut().find(|(name, _)| name == "PATH") else { return };
    for directory in ROOTS {
        if !path.as_bytes().split(|byte| *byte == b':').any(|known| known == directory.as_bytes()) {
            path.push(":");
            path.push(directory);
        }
    }
}

/// Whether `name` can be the name of a variable.
pub fn check_name(name: &OsStr) -> Result<(), Error> {
    if name.is_empty() || name.as_bytes().iter().any(|byte| b"=\0".contains(byte)) {
        return Err(Error::new(format!("{name:?} cannot name a variable"), "write --env NAME or --env NAME=VALUE"));
    }
    Ok(())
}

fn is_allowed(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b"LC_") || ALLOWED.iter().any(|allowed| name == *allowed)
}

/// Variables in order, each name once.
#[derive(Default)]
struct Variables {
    order: Vec<(OsString, OsString)>,
    index: HashMap<OsString, usize>,
}

impl Variables {
    fn has(&self, name: &str) -> bool {
        self.index.contains_key(OsStr::new(name))
    }

    fn set(&mut self, name: OsString, value: OsString) {
        match self.index.get(&name) {
            Some(&place) => self.order[place].1 = value,
            None => {
                self.index.insert(name.clone(), self.order.len());
                self.order.push((name, value));
            }
        }
    }

    fn remove(&mut self, name: &OsStr) {
        if let Some(place) = self.index.remove(name) {
            self.order.remove(place);
            for later in self.index.values_mut().filter(|later| **later > place) {
                *later -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn composed(rules: &Environment) -> Vec<String> {
        let caller = [
            ("PATH", "/bin"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
            ("LC_ALL", "C"),
            ("HOME", "/home/me"),
            ("SSH_AUTH_SOCK", "/x"),
            ("LD_PRELOAD", "/evil.so"),
            ("TMPDIR", "/var/folders"),
            ("USER", "me"),
        ];
        let caller = caller.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let text = |(name, value): (OsString, OsString)| format!("{}={}", name.display(), value.display());
        compose(rules, caller, OsStr::new("guest"), Path::new("/home/guest")).into_iter().map(text).collect()
    }

    #[test]
    fn secrets_are_not_passed_on() {
        let expected = ["PATH=/bin", "LC_ALL=C", "HOME=/home/guest", "USER=guest", "LOGNAME=guest"];
        assert_eq!(composed(&Environment::default()), expected);
    }

    #[test]
    fn names_can_be_added_set_and_taken_away() {
        let rules = Environment {
            set: vec![
                ("SSH_AUTH_SOCK".into(), None),
                ("NOT_THERE".into(), None),
                ("HOME".into(), Some("/mine".into())),
                ("NEW".into(), Some("a=b".into())),
            ],
            unset: vec!["PATH".into(), "LC_ALL".into()],
            ..Environment::default()
        };
        let expected = ["HOME=/mine", "USER=guest", "LOGNAME=guest", "SSH_AUTH_SOCK=/x", "NEW=a=b"];
        assert_eq!(composed(&rules), expected);
    }

    #[test]
    fn everything_or_nothing() {
        let all = composed(&Environment { inherit_all: true, ..Environment::default() });
        assert!(all.contains(&"LD_PRELOAD=/evil.so".to_owned()) && all.contains(&"HOME=/home/guest".to_owned()));

        let set = vec![("ONLY".into(), Some("me".into())), ("LC_ALL".into(), None)];
        let cleared = composed(&Environment { clear: true, set, ..Environment::default() });
        assert_eq!(cleared, ["ONLY=me", "LC_ALL=C"]);
    }

    #[test]
    fn root_finds_its_programs() {
        let added = |rules: &Environment, path: &str| {
            let mut variables = [("PATH".into(), path.into())];
            add_roots_directories(rules, &mut variables);
            variables[0].1.clone()
        };
        let plain = Environment::default();
        assert_eq!(added(&plain, "/bin:/sbin"), "/bin:/sbin:/usr/local/sbin:/usr/sbin");
        assert_eq!(added(&plain, DEFAULT_PATH), DEFAULT_PATH);
        let said = Environment { set: vec![("PATH".into(), Some("/bin".into()))], ..plain };
        assert_eq!(added(&said, "/bin"), "/bin");
    }

    #[test]
    fn a_path_is_always_there() {
        let found = compose(&Environment::default(), [], OsStr::new("u"), Path::new("/h"));
        assert_eq!(found[0], ("PATH".into(), DEFAULT_PATH.into()));
    }
}
