//! Attempts on what the whole host shares: its clock, its files, its disk, its settings.

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use serde_json::json;

use crate::scene::{Attempt, NOT_APPLICABLE, Scene, Seen};

pub const HOST: &[Attempt] = &[
    Attempt { id: "set the clock", tried: "`date -s`: clock_settime to the present moment", with: "", run: clock },
    Attempt {
        id: "read-only bind",
        tried: "writing a file of a read-only bind of the host's",
        with: "a read-only bind",
        run: bind,
    },
    Attempt {
        id: "remounted bind",
        tried: "remounting that bind read-write, then writing",
        with: "a read-only bind",
        run: remounted,
    },
    Attempt {
        id: "the host's /bin",
        tried: "remounting a read-only bind of /bin, then creating a file in it (and removing it)",
        with: "a read-only bind of /bin",
        run: bin,
    },
    Attempt {
        id: "the host's disk",
        tried: "mknod of the disk, mounting it, reading a file of the host's",
        with: "all devices",
        run: disk,
    },
    Attempt {
        id: "a setting",
        tried: "writing /proc/sys/kernel/printk_delay, if need be of a new proc",
        with: "",
        run: setting,
    },
    Attempt {
        id: "core_pattern",
        tried: "opening /proc/sys/kernel/core_pattern for writing",
        with: "",
        run: core_pattern,
    },
    Attempt {
        id: "a new sysfs",
        tried: "mounting sysfs and opening a setting of the kernel for writing",
        with: "",
        run: sysfs,
    },
    Attempt {
        id: "release_agent",
        tried: "mounting the host's cgroups, making a group, opening release_agent",
        with: "",
        run: cgroup,
    },
    Attempt { id: "the kernel's log", tried: "mknod of /dev/kmsg and writing a line", with: "all devices", run: log },
];

/// Tells whether somebody has set the clock since it was made.
struct ClockWatch(OwnedFd);

impl ClockWatch {
    fn new() -> Option<Self> {
        // SAFETY: the descriptor is new and ours; the structure is initialised and outlives the call.
        unsafe {
            let fd = libc::timerfd_create(libc::CLOCK_REALTIME, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC);
            if fd < 0 {
                return None;
            }
            let watch = Self(OwnedFd::from_raw_fd(fd));
            let never = libc::timespec { tv_sec: i64::MAX >> 8, tv_nsec: 0 };
            let value = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: never };
            // TFD_TIMER_CANCEL_ON_SET
            let set = libc::timerfd_settime(fd, libc::TFD_TIMER_ABSTIME | 2, &raw const value, std::ptr::null_mut());
            (set == 0).then_some(watch)
        }
    }

    fn was_set(&self) -> bool {
        let mut count = [0_u8; 8];
        let read = nix::unistd::read(&self.0, &mut count);
        debug_assert!(self.0.as_raw_fd() >= 0, "it is open");
        read == Err(nix::errno::Errno::ECANCELED)
    }
}

fn clock(scene: &Scene) -> Seen {
    let Some(watch) = ClockWatch::new() else { return Seen::new(NOT_APPLICABLE, "no timer that tells") };
    scene.tries(&mut scene.privileged(), &["set-clock"], |_| watch.was_set())
}

fn bound(scene: &Scene, words: &[&str]) -> Seen {
    let mut bundle = scene.privileged();
    let source = bundle.path.join("of-the-host");
    let file = source.join("file");
    let _ = fs::create_dir_all(&source).and_then(|()| fs::write(&file, "whole"));
    bundle.mount("/of-the-host", "bind", &source.to_string_lossy(), &["bind", "ro"]);
    scene.tries(&mut bundle, words, |_| fs::read_to_string(&file).unwrap_or_default() != "whole")
}

fn bind(scene: &Scene) -> Seen {
    bound(scene, &["write", "/of-the-host/file"])
}

fn remounted(scene: &Scene) -> Seen {
    bound(scene, &["remount", "/of-the-host", "/of-the-host/file"])
}

fn bin(scene: &Scene) -> Seen {
    let mut bundle = scene.privileged();
    let name = format!("oci-breakouts-{}", std::process::id());
    let made = std::path::Path::new("/bin").join(&name);
    bundle.mount("/hostbin", "bind", "/bin", &["rbind", "ro"]);
    let seen = scene.tries(&mut bundle, &["remount", "/hostbin", &format!("/hostbin/{name}")], |_| made.exists());
    let _ = fs::remove_file(&made);
    seen
}

fn disk(scene: &Scene) -> Seen {
    let device = fs::metadata(&scene.token).map(|meta| meta.dev()).unwrap_or(0);
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let whole = format!("{}:{}", libc::major(device), libc::minor(device));
    if !table.lines().any(|line| line.split(' ').nth(2) == Some(whole.as_str()) && line.contains(" - ext4 ")) {
        return Seen::new(NOT_APPLICABLE, "the host's disk is no ext4");
    }
    let (major, minor) = (libc::major(device).to_string(), libc::minor(device).to_string());
    let token = scene.token.to_string_lossy().into_owned();
    scene.tries(&mut scene.privileged(), &["disk", &major, &minor, &token], scene.knows())
}

fn setting(scene: &Scene) -> Seen {
    let path = "/proc/sys/kernel/printk_delay";
    let before = fs::read_to_string(path).unwrap_or_default();
    let other = if before.trim() == "1" { "0" } else { "1" };
    let seen = scene
        .tries(&mut scene.privileged(), &["sysctl", other], |_| fs::read_to_string(path).unwrap_or_default() != before);
    let _ = fs::write(path, before);
    seen
}

/// There is no harmless effect of this one; that the file opened for writing is the effect.
fn core_pattern(scene: &Scene) -> Seen {
    scene.tries(&mut scene.privileged(), &["core-pattern"], |said| said.contains("did opened"))
}

fn sysfs(scene: &Scene) -> Seen {
    scene.tries(&mut scene.privileged(), &["uevent-helper"], |said| said.contains("did opened"))
}

fn cgroup(scene: &Scene) -> Seen {
    let place = std::path::Path::new("/sys/fs/cgroup/pids");
    if !place.join("tasks").exists() {
        return Seen::new(NOT_APPLICABLE, "this host has no cgroups of version 1");
    }
    let name = format!("oci-breakouts-{}", std::process::id());
    let seen = scene.tries(&mut scene.privileged(), &["cgroup", "pids", &name], |_| place.join(&name).exists());
    let _ = fs::remove_dir(place.join(&name));
    seen
}

fn log(scene: &Scene) -> Seen {
    let text = format!("oci-breakouts {}", scene.secret);
    let mut bundle = scene.privileged();
    // Without the flag nodev, as engines have it for root.
    bundle.config["root"]["readonly"] = json!(false);
    scene.tries(&mut bundle, &["log", &text], |_| logged().contains(&text))
}

fn logged() -> String {
    let out = std::process::Command::new("dmesg").stderr(std::process::Stdio::null()).output();
    out.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default()
}
