//! What every container has: devices, links, covers, names, rights.

use std::fs;

use serde_json::json;

use crate::{Bundle, By, Case, mount_at, options_of};

pub const CASES: &[Case] = &[
    ("default_devices_are_the_real_ones", default_devices),
    ("masked_and_readonly_paths", covers),
    ("settings_of_the_host_stay", settings),
    ("a_readonly_root", readonly_root),
    ("the_callers_root_is_gone", callers_root),
    ("no_pivot_moves_the_root", no_pivot),
    ("names_are_set", names),
    ("sysctls_of_own_namespaces", sysctls),
    ("capabilities_are_exactly_these", capabilities),
    ("a_limit_that_cannot_be_raised_is_clamped", limits),
    ("the_working_directory_is_made", workdir),
    ("a_terminal_is_the_console", terminal),
    ("devices_of_the_configuration", devices),
    ("what_is_of_the_process_is_set", process),
    ("mqueue_and_sysfs", kernel_systems),
];

fn default_devices(by: By) {
    let out = Bundle::new(by)
        .run("stat -c '%n %F %t:%T %a' /dev/*; readlink /dev/fd; readlink /dev/ptmx; echo x > /dev/null && echo fine");
    for (name, number) in
        [("null", "1:3"), ("zero", "1:5"), ("full", "1:7"), ("random", "1:8"), ("urandom", "1:9"), ("tty", "5:0")]
    {
        assert!(out.contains(&format!("/dev/{name} character special file {number} 666")), "{out}");
    }
    assert!(out.contains("/proc/self/fd\n") && out.contains("pts/ptmx\n") && out.contains("fine"), "{out}");
}

fn covers(by: By) {
    let mut bundle = Bundle::new(by);
    fs::create_dir_all(bundle.root().join("secret/below")).unwrap();
    fs::write(bundle.root().join("secret/below/file"), "s3cret").unwrap();
    bundle.config["linux"]["maskedPaths"] =
        json!(["/proc/kcore", "/proc/keys", "/proc/timer_list", "/secret", "/proc/acpi", "/none/there", "/proc/scsi"]);
    bundle.config["linux"]["readonlyPaths"] = json!(["/proc/sys", "/nor/this", "/etc"]);
    let out = bundle.run(
        "cat /proc/keys /proc/timer_list; ls -A /secret; stat -c %t:%T /proc/keys; \
         echo 1 > /proc/sys/kernel/shm_rmid_forced; touch /etc/x; touch /tmp/x && echo elsewhere; cat /proc/self/mountinfo",
    );
    assert!(!out.contains("s3cret") && !out.contains("below"), "{out}");
    assert!(out.contains("\n1:3\n") || out.starts_with("1:3\n"), "{out}");
    assert_eq!(out.matches("Read-only file system").count(), 2, "{out}");
    assert!(out.contains("elsewhere"), "{out}");
    let cover = mount_at(&out, "/secret");
    assert!(cover.contains(" - tmpfs ") && options_of(cover).contains(&"ro"), "{cover}");
}

fn settings(by: By) {
    let out = Bundle::new(by).run(
        "for name in sys/kernel/core_pattern sys/kernel/printk_delay sys/vm/swappiness; do \
         (: >>/proc/$name) && echo open $name; done; \
         for name in net/ipv4/ip_forward kernel/shmmax kernel/hostname fs/mqueue/msg_max; do \
         (: >>/proc/sys/$name) && echo own $name; done",
    );
    assert!(!out.contains("open"), "{out}");
    // In a user namespace the kernel refuses by itself.
    if by == By::Root {
        assert_eq!(out.matches("Read-only file system").count(), 3, "{out}");
        assert_eq!(out.matches("own ").count(), 4, "{out}");
    }
}

fn readonly_root(by: By) {
    let mut bundle = Bundle::new(by);
    bundle.config["root"]["readonly"] = true.into();
    let out = bundle.run("touch /x; mkdir /y; touch /dev/x && echo dev; cat /proc/self/mountinfo");
    assert_eq!(out.matches("Read-only file system").count(), 2, "{out}");
    assert!(out.contains("dev\n") && options_of(mount_at(&out, "/")).contains(&"ro"), "{out}");
    assert!(!bundle.root().join("x").exists());
}

fn callers_root(by: By) {
    let mut bundle = Bundle::new(by);
    let out = bundle.run("ls -A / /..; ls -A /proc/1/root; cat /proc/self/mountinfo; ls -l /proc/self/fd");
    assert!(!out.contains("home") && !out.contains("/usr"), "{out}");
    // Without what covers the host's settings.
    let mounts: Vec<&str> = out.lines().filter(|line| line.contains(" - ") && !line.contains(" /proc/")).collect();
    assert!(mounts.iter().all(|line| !line.contains("/sys/fs")), "{out}");
    // Root, proc, dev, and in a user namespace six devices.
    assert_eq!(mounts.len(), if by == By::Root { 3 } else { 9 }, "{out}");
    let descriptors = out.lines().filter(|line| line.contains(" -> ")).collect::<String>();
    assert!(
        !descriptors.contains("/proc/sys") && !descriptors.contains("socket:"),
        "no descriptor of the caller's: {out}"
    );
}

fn no_pivot(by: By) {
    let mut bundle = Bundle::new(by);
    bundle.config["annotations"] = json!({ "no-pivot": "" });
    let out = bundle.run("ls -A / /.. /../..; cat /proc/self/mountinfo");
    assert!(!out.contains("home") && !out.contains("/usr") && !out.contains("busybox"), "{out}");
    assert!(out.contains("rootfs / "), "{out}");
}

fn names(by: By) {
    let mut bundle = Bundle::new(by);
    bundle.config["hostname"] = "box".into();
    bundle.config["domainname"] = "example.org".into();
    let out = bundle.run("cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname");
    assert_eq!(out, "box\nexample.org\n");
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "uts");
    let out = bundle.run("cat /proc/sys/kernel/hostname");
    assert!(out.starts_with("FAILED: cannot set the host name without a UTS namespace"), "{out}");
}

fn sysctls(by: By) {
    let mut bundle = Bundle::new(by);
    bundle.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1" });
    let out = bundle.run("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced");
    assert_eq!(out, "1\n1\n");
    bundle.config["linux"]["sysctl"] = json!({ "kernel.panic": "1" });
    let out = bundle.run("");
    assert!(out.starts_with("FAILED: cannot set the sysctl kernel.panic"), "{out}");
}

fn capabilities(by: By) {
    let mut bundle = Bundle::new(by);
    let sets = json!(["CAP_KILL", "CAP_NET_RAW"]);
    bundle.config["process"]["capabilities"] = json!({ "bounding": sets, "permitted": sets, "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"] });
    let script = "grep -E '^(Cap|NoNewPrivs|Groups)' /proc/self/status | tr '\\t' ' '";
    let out = bundle.run(script);
    // After exec root has what the bounding set leaves.
    for line in [
        "CapInh: 0000000000000020",
        "CapPrm: 0000000000002020",
        "CapBnd: 0000000000002020",
        "CapAmb: 0000000000000020",
        "NoNewPrivs: 1",
    ] {
        assert!(out.contains(line), "{line} in {out}");
    }
    bundle.config["process"].as_object_mut().unwrap().remove("capabilities");
    bundle.config["process"]["noNewPrivileges"] = false.into();
    let out = bundle.run(script);
    for line in ["CapPrm: 0000000000000000", "CapEff: 0000000000000000", "CapBnd: 0000000000000000", "NoNewPrivs: 0"] {
        assert!(out.contains(line), "{line} in {out}");
    }
    if by == By::Root {
        bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1001, "additionalGids": [5, 6] });
        bundle.config["process"]["capabilities"] = json!({ "bounding": sets, "permitted": sets, "effective": sets, "inheritable": sets, "ambient": ["CAP_NET_RAW"] });
        let out = bundle.run(&format!("{script}; id"));
        for line in ["CapEff: 0000000000002000", "CapAmb: 0000000000002000", "Groups: 5 6", "uid=1000 gid=1001"] {
            assert!(out.contains(line), "{line} in {out}");
        }
    }
}

fn limits(by: By) {
    let mut bundle = Bundle::new(by);
    bundle.config["process"]["rlimits"] = json!([
        { "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 },
        { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
    ]);
    let out = bundle.run("cat /proc/self/limits");
    let line = out.lines().find(|line| line.starts_with("Max open files")).unwrap_or_else(|| panic!("{out}"));
    assert_eq!(line.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["100", "200"]);
    bundle.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NPROC", "soft": u64::MAX, "hard": u64::MAX }]);
    let out = bundle.run("cat /proc/self/limits");
    let raised = out.contains("WARNING")
        || out.lines().any(|line| line.starts_with("Max processes") && line.contains("unlimited"));
    assert!(raised && !out.contains("FAILED"), "{out}");
    let twice = json!({ "type": "RLIMIT_CORE", "soft": 0, "hard": 0 });
    bundle.config["process"]["rlimits"] = json!([twice, twice]);
    assert!(bundle.run("").contains("it is there twice"));
}

fn workdir(by: By) {
    let mut bundle = Bundle::new(by);
    bundle.config["process"]["cwd"] = "/srv/made/here".into();
    assert_eq!(bundle.run("pwd"), "/srv/made/here\n");
    fs::write(bundle.root().join("file"), "").unwrap();
    bundle.config["process"]["cwd"] = "/file".into();
    assert!(bundle.run("pwd").starts_with("FAILED: cannot enter the working directory /file"));
}

fn terminal(by: By) {
    let mut bundle = Bundle::new(by);
    bundle.config["process"]["terminal"] = true.into();
    assert!(bundle.run("").contains("a terminal needs a devpts"));
    bundle.mount(
        "/dev/pts",
        "devpts",
        "devpts",
        &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    );
    let out = bundle.run("stat -c '%n %t:%T' /dev/console /dev/ptmx; ls /dev/pts; cat /proc/self/mountinfo");
    assert!(out.contains("/dev/console 88:0"), "{out}");
    assert!(mount_at(&out, "/dev/console").contains(" - devpts "), "{out}");
    assert_eq!(out.contains("group 5 does not exist"), by == By::User, "{out}");
}

fn devices(by: By) {
    let mut bundle = Bundle::new(by);
    bundle.config["linux"]["devices"] = json!([
        { "path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640 },
        { "path": "/dev/deep/pipe", "type": "p", "fileMode": 0o600 },
        { "path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o666, "uid": 0, "gid": 0 },
    ]);
    let out = bundle.run("stat -c '%n %F %t:%T %a' /dev/mine /dev/deep/pipe /dev/zero");
    assert!(
        out.contains("/dev/deep/pipe fifo 0:0 600") && out.contains("/dev/zero character special file 1:5 666"),
        "{out}"
    );
    assert!(out.contains("/dev/mine character special file 1:3"), "{out}");
    assert_eq!(out.contains("1:3 640"), by == By::Root, "the host's own keeps its mode: {out}");
}

fn process(by: By) {
    let mut bundle = Bundle::new(by);
    bundle.config["process"]["oomScoreAdj"] = 500.into();
    bundle.config["process"]["user"]["umask"] = 0o077.into();
    bundle.config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 0 });
    bundle.config["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 3 });
    let out = bundle.run("umask; cat /proc/self/oom_score_adj; busybox ionice -p $$; cut -d' ' -f19,41 /proc/$$/stat || busybox cut -d' ' -f19,41 /proc/$$/stat");
    assert!(out.contains("0077\n500\n") && out.contains("idle") && out.contains("3 3\n"), "{out}");
}

fn kernel_systems(by: By) {
    let mut bundle = Bundle::new(by);
    bundle.mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]);
    bundle.mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]);
    let out = bundle.run("ls /sys/class/net; cat /proc/self/mountinfo");
    assert!(out.contains("lo\n"), "{out}");
    assert!(mount_at(&out, "/dev/mqueue").contains(" - mqueue "), "{out}");
    let sysfs = mount_at(&out, "/sys");
    assert!(
        sysfs.contains(" - sysfs ")
            && ["ro", "nosuid", "nodev", "noexec"].iter().all(|option| options_of(sysfs).contains(option)),
        "{sysfs}"
    );
    // Without an own network namespace a user has the caller's, and is told.
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "network");
    let out = bundle.run("touch /sys/x; cat /proc/self/mountinfo");
    assert_eq!(out.contains("WARNING: /sys"), by == By::User, "{out}");
    assert!(
        out.lines()
            .filter(|line| line.split(' ').nth(4).is_some_and(|place| place.starts_with("/sys")))
            .all(|line| options_of(line).contains(&"ro")),
        "{out}"
    );
}
