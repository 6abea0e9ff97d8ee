//! Attempts on other processes, on the runtime itself, and on what it leaves open.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use sentry_tests::oci::{Stand, mounts};
use serde_json::json;

use crate::scene::{Attempt, INSIDE, NOT_APPLICABLE, REACHED, REFUSED, Scene, Seen, judged};

pub const ESCAPES: &[Attempt] = &[
    Attempt {
        id: "setns to the host",
        tried: "setns to /proc/PID/ns/mnt of a process of the host's, reading a file",
        with: "--pid=host",
        run: enter,
    },
    Attempt {
        id: "/proc/PID/root",
        tried: "reading a file through /proc/PID/root of a process of the host's",
        with: "--pid=host",
        run: root_link,
    },
    Attempt {
        id: "spying on a process",
        tried: "reading the environment of a process of the host's",
        with: "--pid=host",
        run: spy,
    },
    Attempt { id: "killing a process", tried: "kill(2) of a process of the host's", with: "--pid=host", run: kills },
    Attempt {
        id: "open_by_handle_at",
        tried: "the root of the host's file system by its handle (shocker)",
        with: "",
        run: handle,
    },
    Attempt { id: "the session's keys", tried: "keyctl search of the user's keyring of the host", with: "", run: key },
    Attempt {
        id: "abstract socket",
        tried: "connecting to an abstract socket of the host's",
        with: "--network=host",
        run: socket,
    },
    Attempt {
        id: "the runtime's binary",
        tried: "overwriting the runtime through /proc/PID/exe while it runs exec (CVE-2019-5736)",
        with: "an exec into it",
        run: binary,
    },
    Attempt {
        id: "leaked directory",
        tried: "a working directory of /proc/self/fd/N (CVE-2024-21626)",
        with: "the working directory",
        run: leaked,
    },
    Attempt {
        id: "exchanged mount point",
        tried: "exchanging a mount point for a symbolic link while it is mounted, 30 times (CVE-2021-30465)",
        with: "a shared volume",
        run: exchanged,
    },
];

/// A process of the host's, of the same user.
fn victim(scene: &Scene) -> Option<Child> {
    let mut command = Command::new(&scene.stand.probe);
    command.arg("victim").env_clear().env("SECRET", &scene.secret).stdout(Stdio::piped());
    let mut child = command.spawn().ok()?;
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut()?).read_line(&mut line).ok()?;
    Some(child)
}

fn with_victim(scene: &Scene, words: impl Fn(&str) -> Vec<String>) -> Seen {
    let Some(mut victim) = victim(scene) else { return Seen::new(NOT_APPLICABLE, "no victim") };
    let words = words(&victim.id().to_string());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let seen = scene.tries(&mut scene.with_host_processes(), &words, scene.knows());
    let _ = victim.kill().and_then(|()| victim.wait());
    seen
}

fn enter(scene: &Scene) -> Seen {
    let token = scene.token.to_string_lossy();
    with_victim(scene, |pid| ["enter", pid, &token].map(str::to_owned).to_vec())
}

fn root_link(scene: &Scene) -> Seen {
    let token = scene.token.to_string_lossy();
    with_victim(scene, |pid| ["root-link", pid, &token].map(str::to_owned).to_vec())
}

fn spy(scene: &Scene) -> Seen {
    with_victim(scene, |pid| ["environment", pid, "SECRET"].map(str::to_owned).to_vec())
}

fn kills(scene: &Scene) -> Seen {
    let Some(mut victim) = victim(scene) else { return Seen::new(NOT_APPLICABLE, "no victim") };
    let pid = victim.id().to_string();
    let seen = scene.tries(&mut scene.with_host_processes(), &["kill", &pid], |_| {
        // What was sent arrives at once, for the victim only sleeps.
        std::thread::sleep(std::time::Duration::from_millis(50));
        victim.try_wait().is_ok_and(|ended| ended.is_some())
    });
    let _ = victim.kill().and_then(|()| victim.wait());
    seen
}

fn handle(scene: &Scene) -> Seen {
    scene.tries(&mut scene.privileged(), &["handle", &scene.token.to_string_lossy()], scene.knows())
}

fn key(scene: &Scene) -> Seen {
    let description = format!("oci-breakouts-{}", std::process::id());
    let words = ["user", &description, &scene.secret].map(|text| std::ffi::CString::new(text).unwrap_or_default());
    // SAFETY: the strings end with NUL and outlive the calls; -4 is the keyring of the user, which is the host's.
    let added = unsafe {
        let key = libc::syscall(
            libc::SYS_add_key,
            words[0].as_ptr(),
            words[1].as_ptr(),
            words[2].as_ptr(),
            scene.secret.len(),
            -4,
        );
        // KEYCTL_SETPERM: everything for the user, as programs that share keys have it.
        libc::syscall(libc::SYS_keyctl, 5, key, 0x3f3f_0000);
        key
    };
    if added < 0 {
        return Seen::new(NOT_APPLICABLE, "this host has no keys");
    }
    let seen = scene.tries(&mut scene.privileged(), &["key", &description], scene.knows());
    // SAFETY: KEYCTL_UNLINK takes numbers only.
    unsafe { libc::syscall(libc::SYS_keyctl, 9, added, -4) };
    seen
}

fn socket(scene: &Scene) -> Seen {
    let name = format!("oci-breakouts-{}", std::process::id());
    let listener = SocketAddr::from_abstract_name(&name).and_then(|place| UnixListener::bind_addr(&place));
    let Ok(listener) = listener else { return Seen::new(NOT_APPLICABLE, "no socket") };
    let secret = scene.secret.clone();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(secret.as_bytes());
        }
    });
    scene.tries(&mut scene.with_host_network(), &["socket", &name], scene.knows())
}

/// A copy of the runtime's binary, under its own name, in a directory of its own.
fn copied(scene: &Scene) -> Option<PathBuf> {
    let name = &scene.stand.runtime[0];
    let place = std::env::var_os("PATH")?;
    let own = if name.contains('/') {
        PathBuf::from(name)
    } else {
        std::env::split_paths(&place).map(|directory| directory.join(name)).find(|path| path.exists())?
    };
    let directory = scene.stand.directory.join("copy");
    fs::create_dir_all(&directory).ok()?;
    let copy = directory.join(own.file_name()?);
    fs::copy(own, &copy).ok()?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).ok()?;
    Some(copy)
}

fn binary(scene: &Scene) -> Seen {
    let Some(copy) = copied(scene) else { return Seen::new(NOT_APPLICABLE, "the runtime's binary is not found") };
    let whole = fs::read(&copy).unwrap_or_default();
    let mut runtime = scene.stand.runtime.clone();
    runtime[0] = copy.to_string_lossy().into_owned();
    let Ok(stand) = Stand::new(runtime, &scene.stand.directory.join("second"), &scene.stand.probe) else {
        return Seen::new(NOT_APPLICABLE, "no place for it");
    };
    let second =
        Scene { stand, token: scene.token.clone(), secret: scene.secret.clone(), seccomp: scene.seccomp.clone() };
    let mut bundle = second.privileged();
    let script = bundle.rootfs("evil");
    let _ = fs::write(&script, "#!/proc/self/exe\n")
        .and_then(|()| fs::set_permissions(&script, fs::Permissions::from_mode(0o755)));
    bundle.args(["runtime-binary"]);
    let container = match bundle.start().and_then(|container| container.says("ready").map(|()| container)) {
        Ok(container) => container,
        Err(why) => return Seen::new(REFUSED, why),
    };
    for _ in 0..5 {
        second.stand.call(["exec", &bundle.id, "/evil"]);
    }
    let _ = container.wait();
    judged(&container.output(), |_| fs::read(&copy).unwrap_or_default() != whole)
}

fn leaked(scene: &Scene) -> Seen {
    let mut tried = 0;
    for number in 3..=20 {
        let mut bundle = scene.privileged();
        bundle.config["process"]["cwd"] = json!(format!("/proc/self/fd/{number}"));
        bundle.args(["relative", &scene.token.to_string_lossy()]);
        let Ok((_, said)) = bundle.run() else { continue };
        tried += 1;
        if said.contains(&scene.secret) {
            return Seen::new(REACHED, format!("descriptor {number}"));
        }
    }
    if tried == 0 {
        Seen::new(REFUSED, "the runtime refuses each")
    } else {
        Seen::new(INSIDE, format!("{tried} of 18 start, in a directory of the container"))
    }
}

fn exchanged(scene: &Scene) -> Seen {
    let volume = scene.stand.directory.join("volume");
    let _ = fs::create_dir_all(volume.join("a"));
    let _ = symlink("/", volume.join("b"));
    let (one, other) = (volume.join("a"), volume.join("b"));
    let mut racer =
        match Command::new(&scene.stand.probe).arg("exchange").args([&one, &other]).stdout(Stdio::null()).spawn() {
            Ok(racer) => racer,
            Err(error) => return Seen::new(NOT_APPLICABLE, error.to_string()),
        };
    let (mut elsewhere, mut refused) = (0, 0);
    for _ in 0..30 {
        let mut bundle = scene.privileged();
        bundle.mount("/volume", "bind", &volume.to_string_lossy(), &["bind", "rw"]);
        bundle.mount("/volume/a", "tmpfs", "tmpfs", &["size=76k"]);
        bundle.args(["sleep"]);
        match bundle.create() {
            Ok(container) => {
                let table = fs::read_to_string(format!("/proc/{}/mountinfo", container.pid)).unwrap_or_default();
                let found =
                    mounts(&table).iter().any(|mount| mount.has("size=76k") && mount.point.starts_with("/volume/"));
                elsewhere += i32::from(!found && !table.is_empty());
            }
            Err(_) => refused += 1,
        }
    }
    let _ = racer.kill().and_then(|()| racer.wait());
    let detail = format!("{elsewhere} of 30 mounts landed elsewhere, {refused} containers were refused");
    Seen::new(if elsewhere > 0 { REACHED } else { INSIDE }, detail)
}
