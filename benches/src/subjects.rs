//! Who is measured: a name and the command prefix that comes before the guest.

use std::path::Path;

use crate::record::{self, Role};

/// One subject.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its name in the table.
    pub name: &'static str,
    /// What comes before the guest's command.
    pub prefix: Vec<String>,
    /// Why it is not measured, if so.
    pub missing: Option<String>,
}

impl Subject {
    /// As results files tell of it.
    pub fn record(&self) -> record::Subject {
        let role = match self.name {
            "native" => Role::Native,
            "native again" => Role::Control,
            name if name.starts_with("sentry") => Role::Ours,
            _ => Role::Peer,
        };
        let (how, missing) = (self.prefix.join(" "), self.missing.clone());
        record::Subject { name: self.name.to_owned(), role, how, version: None, missing }
    }
}

/// What our default view shows of `/etc`, for bubblewrap to show the same.
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
    "java-17-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ldap/ldap.conf",
    "locale.alias",
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
    "perl",
    "profile",
    "profile.d",
    "protocols",
    "python3",
    "python3.11",
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

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn found(program: &str) -> Option<String> {
    let path = Path::new(program);
    let there = if path.components().count() > 1 {
        path.exists()
    } else {
        ["/usr/local/bin", "/usr/bin", "/bin"].iter().any(|directory| Path::new(directory).join(program).exists())
    };
    (!there).then(|| format!("{program} is not installed"))
}

/// All subjects for guests that work in `directory`; the first is native, the second native again as a control.
pub fn all(sentry: &str, directory: &str) -> Vec<Subject> {
    let base = "bwrap --unshare-all --die-with-parent --ro-bind /usr /usr --symlink usr/bin /bin --symlink usr/sbin /sbin --symlink usr/lib /lib \
         --symlink usr/lib64 /lib64 --proc /proc --dev /dev --tmpfs /tmp";
    let mut same = words(base);
    for name in ETC.iter().filter(|name| Path::new("/etc").join(name).exists()) {
        same.extend(["--ro-bind".to_owned(), format!("/etc/{name}"), format!("/etc/{name}")]);
    }
    let bind = |mut prefix: Vec<String>| {
        prefix.extend(words(&format!("--bind {directory} {directory} --chdir {directory}")));
        prefix
    };
    // Patterns are words of their own here: no shell looks at them.
    let ours = |options: &str| words(&format!("{sentry} run --quiet {options} --"));
    let subject = |name, prefix: Vec<String>| {
        let missing = prefix.first().and_then(|program| found(program));
        Subject { name, prefix, missing }
    };
    vec![
        subject("native", Vec::new()),
        subject("native again", Vec::new()),
        subject("bwrap, /usr only", bind(words(base))),
        subject("bwrap, same view", bind(same)),
        subject("sentry --write .", ours("--write .")),
        subject("sentry --read .", ours("--read .")),
        subject("sentry (copy-on-write)", ours("--cow .")),
        subject("sentry --hide '**/.env*'", ours("--write . --hide **/.env*")),
        subject("sentry --interpose full", ours("--write . --interpose full")),
        subject("sentry --fake-root", ours("--write . --fake-root")),
        subject("sentry --clock virtual", ours("--write . --clock virtual")),
    ]
}
