//! The runtimes, and where they are.

use std::path::Path;

use crate::place::Place;
use crate::record::Role;

/// What the others are compared with.
pub const CRUN: &str = "crun";
/// Ours, as it is installed.
pub const OURS: &str = "sentry oci";
/// Ours from a file that belongs to the user, and so could be written by the container: it runs from a copy in memory.
const OWN_FILE: &str = "sentry oci, the user's own file";

/// One runtime.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// Its name in tables.
    pub name: &'static str,
    /// What it is to the others.
    pub role: Role,
    /// Its program.
    pub program: String,
    /// What comes before its verbs.
    pub options: &'static [&'static str],
    /// Whether podman can use it.
    pub under_podman: bool,
    /// Whether its containers have a user namespace of the configuration's if the user is an ordinary one.
    pub user_namespace: bool,
}

/// All of them; whoever is not installed is missing.
pub fn all(place: &Place, sentry: &Path) -> Vec<Runtime> {
    // Under the name by which it needs no verb.
    let named = |directory: &str, program: &Path| {
        let name = place.whole.join(directory).join("sentry-oci");
        let _ = std::fs::create_dir_all(place.whole.join(directory));
        let _ = std::os::unix::fs::symlink(program, &name);
        name.to_string_lossy().into_owned()
    };
    let (ours, own) = (named("installed", sentry), named("own", &place.sentry()));
    let peer = |name, program: &str, options, under_podman| Runtime {
        name,
        role: Role::Peer,
        program: found(program),
        options,
        under_podman,
        user_namespace: true,
    };
    vec![
        Runtime { role: Role::Native, ..peer(CRUN, "crun", &[], true) },
        Runtime { role: Role::Control, ..peer("crun again", "crun", &[], true) },
        Runtime { role: Role::Ours, ..peer(OURS, &ours, &[], true) },
        Runtime { role: Role::Ours, ..peer(OWN_FILE, &own, &[], true) },
        peer("runc", "runc", &[], true),
        // It makes the user namespace of an ordinary user itself.
        Runtime {
            user_namespace: false,
            ..peer("runsc", "runsc", &["--rootless", "--network=none", "--ignore-cgroups", "--overlay2=none"], false)
        },
    ]
}

/// Where a program is; Debian keeps runc among those of the administrator.
fn found(program: &str) -> String {
    let places = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin"];
    let place = places.iter().map(|place| Path::new(place).join(program)).find(|path| path.exists());
    place.map_or(program.to_owned(), |path| path.to_string_lossy().into_owned())
}
