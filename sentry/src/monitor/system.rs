//! The default system view: what every program expects to find, and nothing that tells of this host's users.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::{AT_FDCWD, AtFlags, readlinkat};
use nix::libc;
use nix::sys::stat::fstatat;
use shim::failure::Failure;
use shim::plan::{Identity, Place, Source, View};

use super::view::{inside, text};
use crate::policy::Net;

/// Who asked for the system directories.
pub const ORIGIN: &str = "the default view of the system";

/// What of `/etc` is harmless: configuration of the loader, of languages and libraries, certificates, lists of numbers.
/// Nothing here names users, hosts, services or secrets of this machine.
const ETC: &[&str] = &[
    "alternatives",
    "bash.bashrc",
    "bash_completion.d",
    "ca-certificates",
    "ca-certificates.conf",
    "debian_version",
    "ethertypes",
    "fonts",
    "gai.conf",
    "gprofng.rc",
    "groff",
    "host.conf",
    "inputrc",
    "java-11-openjdk",
    "java-17-openjdk",
    "java-21-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ldap/ldap.conf",
    "locale.alias",
    "locale.conf",
    "localtime",
    "login.defs",
    "lsb-release",
    "magic",
    "magic.mime",
    "mailcap",
    "manpath.config",
    "maven",
    "mime.types",
    "networks",
    "opt",
    "os-release",
    "perl",
    "pki/ca-trust",
    "pki/tls/certs",
    "profile",
    "profile.d",
    "protocols",
    "python3",
    "python3.10",
    "python3.11",
    "python3.12",
    "python3.13",
    "rpc",
    "services",
    "sgml",
    "shells",
    "skel",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
    "vim",
    "wgetrc",
    "xattr.conf",
    "xdg",
    "xml",
];

/// Devices that cannot do harm, with the numbers they must have.
pub(super) const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// What stands in for the host's own.
const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\n\
                        protocols: files\nservices: files\nethers: files\nrpc: files\nnetgroup: files\n";

/// Whom root finds besides itself: users and groups that have had these numbers for ever.
const SYSTEM_USERS: &str = "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\nbin:x:2:2:bin:/bin:/usr/sbin/nologin\n\
                            mail:x:8:8:mail:/var/mail:/usr/sbin/nologin\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n\
                            sshd:x:101:65534::/run/sshd:/usr/sbin/nologin\n";
const SYSTEM_GROUPS: &str = "daemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\nmail:x:8:\nwww-data:x:33:\n\
                             shadow:x:42:\nutmp:x:43:\nstaff:x:50:\nusers:x:100:\n";

fn c(text: &str) -> Result<CString, Failure> {
    CString::new(text).map_err(|_| Failure::check(format!("use the name {text:?}")))
}

/// Devices for `/dev`.
pub fn devices() -> Result<Vec<(CString, u32, u32)>, Failure> {
    DEVICES.iter().map(|(name, major, minor)| Ok((c(name)?, *major, *minor))).collect()
}

/// Adds a host path read-only, as what it is: a symlink stays a symlink, what is missing stays missing. `directory` is
/// where the host has it under `name`.
fn show(view: &mut View, directory: BorrowedFd, name: &str, path: &str) -> Result<(), Failure> {
    let Ok(stat) = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) else { return Ok(()) };
    if stat.st_mode & libc::S_IFMT == libc::S_IFLNK {
        let Ok(target) = readlinkat(directory, name) else { return Ok(()) };
        let target = CString::new(target.as_bytes()).map_err(|_| Failure::check(format!("read {path}")))?;
        view.links.push((inside(Path::new(path))?, target));
        return Ok(());
    }
    view.places.push(Place {
        inside: inside(Path::new(path))?,
        source: Source::Host { path: c(path)?, identity: None },
        writable: false,
        optional: true,
        origin: ORIGIN.to_owned(),
    });
    Ok(())
}

/// Adds `/usr`, what leads there, and the harmless part of `/etc`.
pub fn add(view: &mut View) -> Result<(), Failure> {
    for directory in crate::policy::view::SYSTEM.iter().filter(|directory| **directory != "/etc") {
        show(view, AT_FDCWD, directory, directory)?;
    }
    show_settings(view, ETC)
}

/// Adds what the host has of these names in `/etc`, which is looked up once.
fn show_settings(view: &mut View, names: &[&str]) -> Result<(), Failure> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let Ok(etc) = shim::sys::open_at(None, c"/etc", flags, 0, 0) else { return Ok(()) };
    names.iter().try_for_each(|name| show(view, etc.as_fd(), name, &format!("/etc/{name}")))
}

/// What programs need besides to make somebody a user (`su`, `login`): harmless too, and of no use to anyone but root.
const FOR_ROOT: &[&str] = &["pam.conf", "pam.d", "security"];

/// Adds what only a guest that is root asks for. Nobody has a password.
pub fn add_for_root(view: &mut View) -> Result<(), Failure> {
    show_settings(view, FOR_ROOT)?;
    let nobody_may_log_in = |names: &str| -> String {
        let names = names.lines().filter_map(|line| line.split(':').next());
        names.map(|name| format!("{name}:*:19000:0:99999:7:::\n")).collect()
    };
    let shadow = nobody_may_log_in(&format!("root:\n{SYSTEM_USERS}nobody:\n"));
    text(view, Path::new("/etc/shadow"), shadow.into_bytes())
}

/// Adds the files that are made up: who the user is, what the host is called, how names are looked up.
pub fn add_synthetic(
    view: &mut View,
    identity: &Identity,
    home: &Path,
    hostname: &str,
    net: Net,
) -> Result<(), Failure> {
    let user = guest_name(identity);
    let (uid, gid, home) = (identity.uid, identity.gid, home.display());
    let (mut passwd, mut group) = if uid == 0 {
        (format!("root:x:0:0:root:{home}:/bin/sh\n{SYSTEM_USERS}"), format!("root:x:0:\n{SYSTEM_GROUPS}"))
    } else {
        let root = "root:x:0:0:root:/root:/usr/sbin/nologin";
        (format!("{root}\n{user}:x:{uid}:{gid}:{user}:{home}:/bin/sh\n"), format!("root:x:0:\n{user}:x:{gid}:\n"))
    };
    passwd.push_str("nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n");
    group.push_str("nogroup:x:65534:\n");
    let resolv = match net {
        // Without a network, an answer at once beats a time-out: nothing listens on the sandbox's own loopback.
        Net::None => "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n".to_owned(),
        Net::All => std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
    };
    let hosts = format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (path, content) in [
        ("/etc/passwd", passwd),
        ("/etc/group", group),
        ("/etc/hosts", hosts),
        ("/etc/hostname", format!("{hostname}\n")),
        ("/etc/resolv.conf", resolv),
        ("/etc/nsswitch.conf", NSSWITCH.to_owned()),
        (super::nested::MARK, format!("sentry {}\n", env!("CARGO_PKG_VERSION"))),
    ] {
        text(view, Path::new(path), content.into_bytes())?;
    }
    Ok(())
}

/// What of `/etc` programs need: what is harmless and what is made up.
pub(super) fn settings() -> impl Iterator<Item = &'static str> {
    let made_up = ["passwd", "group", "hosts", "hostname", "resolv.conf", "nsswitch.conf"];
    ETC.iter().copied().chain(made_up)
}

/// What the guest's user is called.
pub fn guest_name(identity: &Identity) -> String {
    if identity.uid == 0 {
        return "root".to_owned();
    }
    let login = std::env::var("USER").ok().filter(|name| !identity.by_root && is_login(name));
    login.unwrap_or_else(|| "guest".to_owned())
}

fn is_login(name: &str) -> bool {
    let ok = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !name.is_empty() && name.len() <= 32 && name != "root" && name.bytes().all(ok)
}
