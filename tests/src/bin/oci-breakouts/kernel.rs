//! Calls that reach deep into the host's kernel, where past bugs were: whether root in the container may make them at all.

use crate::scene::{ALLOWED, Attempt, INSIDE, Scene, Seen};

pub const SURFACE: &[Attempt] = &[
    Attempt {
        id: "loading a module",
        tried: "finit_module of no descriptor: EBADF if it were permitted",
        with: "",
        run: |scene| permitted(scene, "load-module"),
    },
    Attempt {
        id: "removing a module",
        tried: "delete_module of one that does not exist: ENOENT if it were permitted",
        with: "",
        run: |scene| permitted(scene, "remove-module"),
    },
    Attempt {
        id: "kexec",
        tried: "kexec_load with invalid flags: EINVAL if it were permitted",
        with: "",
        run: |scene| permitted(scene, "kexec"),
    },
    Attempt {
        id: "swapon",
        tried: "swapon of a file that does not exist: ENOENT if it were permitted",
        with: "",
        run: |scene| permitted(scene, "swap"),
    },
    Attempt { id: "bpf", tried: "bpf(BPF_MAP_CREATE)", with: "", run: |scene| permitted(scene, "bpf") },
    Attempt { id: "perf", tried: "perf_event_open of all processes", with: "", run: |scene| permitted(scene, "perf") },
    Attempt { id: "io_uring", tried: "io_uring_setup", with: "", run: |scene| permitted(scene, "io-uring") },
    Attempt { id: "userfaultfd", tried: "userfaultfd", with: "", run: |scene| permitted(scene, "userfaultfd") },
    Attempt {
        id: "fsopen",
        tried: "fsopen of ext4, the new way to mount",
        with: "",
        run: |scene| permitted(scene, "fsopen"),
    },
    Attempt {
        id: "unshare and overlay",
        tried: "a new user namespace, and an overlay in it",
        with: "",
        run: |scene| permitted(scene, "new-user"),
    },
    Attempt {
        id: "reading the kernel's log",
        tried: "syslog: the size of its buffer",
        with: "",
        run: |scene| permitted(scene, "kernel-log"),
    },
];

fn permitted(scene: &Scene, what: &str) -> Seen {
    let seen = scene.tries(&mut scene.privileged(), &[what], |_| false);
    if seen.word == INSIDE { Seen::new(ALLOWED, seen.detail) } else { seen }
}
