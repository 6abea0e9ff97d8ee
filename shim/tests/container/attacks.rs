//! Images that want to reach the host through what a runtime does for them.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::inside::HOST;
use crate::{Bundle, By, Case, mount_at};

pub const CASES: &[Case] = &[
    ("cve_2021_30465_mount_target_is_a_symlink_out", target_out),
    ("cve_2019_19921_proc_is_a_symlink", proc_link),
    ("cve_2023_27561_proc_below_a_symlink", proc_below_link),
    ("cve_2019_16884_mount_over_proc", over_proc),
    ("cve_2025_31133_dev_null_is_a_symlink", null_link),
    ("cve_2025_52565_dev_console_is_a_symlink", console_link),
    ("cve_2025_52881_sysctl_into_a_file_of_the_image", sysctl_file),
    ("device_targets_are_symlinks", device_links),
    ("magic_links_are_no_targets", magic),
    ("cve_2024_21626_working_directory_outside", workdir),
    ("names_of_users_outside", users_outside),
    ("tmpcopyup_of_a_symlink", copy_link),
    ("the_root_itself_is_no_target", root),
];

/// Nothing below `secret` of the host was made, covered or shown.
fn untouched(bundle: &Bundle) {
    let secret = bundle.host().join("secret");
    assert_eq!(fs::read_dir(&secret).unwrap().count(), 1, "only the file that was there");
    assert_eq!(fs::read_to_string(secret.join("file")).unwrap(), "s3cret");
}

fn with_secret(by: By) -> Bundle {
    let bundle = Bundle::new(by);
    let secret = bundle.host().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("file"), "s3cret").unwrap();
    bundle
}

fn target_out(by: By) {
    for link in ["absolute", "relative", "slash"] {
        let mut bundle = with_secret(by);
        let to = match link {
            "absolute" => bundle.host().join("secret").display().to_string(),
            "relative" => "../secret".to_owned(),
            _ => "/../../secret".to_owned(),
        };
        symlink(to, bundle.root().join("trap")).unwrap();
        bundle.mount("/trap", "tmpfs", "tmpfs", &[]);
        bundle.mount("/trap/deeper/place", "tmpfs", "tmpfs", &[]);
        let out = bundle.run("cat /trap/file; cat /proc/self/mountinfo");
        assert!(!out.contains("s3cret") && !out.contains("FAILED") && out.contains("/deeper/place "), "{link}: {out}");
        untouched(&bundle);
    }
}

fn proc_link(by: By) {
    for kind in ["proc", "sysfs"] {
        let mut bundle = with_secret(by);
        let name = if kind == "proc" { "proc" } else { "sys" };
        fs::remove_dir(bundle.root().join(name)).unwrap();
        fs::create_dir_all(bundle.root().join("fake/self/attr")).unwrap();
        symlink("/fake", bundle.root().join(name)).unwrap();
        if kind == "sysfs" {
            bundle.mount("/sys", "sysfs", "sysfs", &[]);
        }
        let out = bundle.run("ls /proc");
        assert!(out.starts_with(&format!("FAILED: cannot find /{name}")) && out.contains("symlink"), "{out}");
    }
}

fn proc_below_link(by: By) {
    let mut bundle = with_secret(by);
    symlink("/", bundle.root().join("up")).unwrap();
    bundle.mount("/up/elsewhere", "proc", "proc", &[]);
    fs::create_dir(bundle.root().join("elsewhere")).unwrap();
    let out = bundle.run("ls /elsewhere");
    assert!(out.starts_with("FAILED") && out.contains("symlink"), "{out}");
}

fn over_proc(by: By) {
    for place in ["/proc/self/attr", "/proc/sys", "/proc/1", "/proc"] {
        let out = with_secret(by).mount(place, "tmpfs", "tmpfs", &[]).run("");
        assert!(out.starts_with("FAILED") && out.contains("inside /proc"), "{place}: {out}");
    }
    let mut bundle = with_secret(by);
    let out = bundle.mount("/proc/uptime", "bind", "secret/file", &["bind", "ro"]).run("cat /proc/uptime");
    assert_eq!(out, "s3cret", "as lxcfs does");
    // By another name it is the same place.
    let mut bundle = with_secret(by);
    symlink("/proc/sys", bundle.root().join("alias")).unwrap();
    let out = bundle.mount("/alias", "tmpfs", "tmpfs", &[]).run("");
    assert!(out.starts_with("FAILED") && out.contains("inside /proc"), "{out}");
}

fn null_link(by: By) {
    // Without a mount at /dev the image brings its own.
    for what in ["symlink", "file"] {
        let mut bundle = with_secret(by);
        bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev");
        bundle.config["linux"]["maskedPaths"] = json!(["/proc/keys"]);
        let null = bundle.root().join("dev/null");
        match what {
            "symlink" => symlink("/proc/sysrq-trigger", &null).unwrap(),
            _ => fs::write(&null, "shown instead").unwrap(),
        }
        let out = bundle.run("cat /proc/keys; stat -c '%F %t:%T' /proc/keys; cat /proc/self/mountinfo");
        if what == "symlink" {
            assert!(out.starts_with("FAILED") && out.contains("something else there"), "{out}");
            continue;
        }
        if out.starts_with("FAILED") {
            panic!("{out}");
        }
        assert!(out.starts_with("character special file 1:3"), "{out}");
        assert!(!out.contains("shown instead") && !mount_at(&out, "/proc/keys").is_empty(), "{out}");
    }
    // The host's /dev, in which the link was put by whoever shares it.
    let mut bundle = with_secret(by);
    fs::create_dir(bundle.host().join("dev")).unwrap();
    symlink("/proc/sysrq-trigger", bundle.host().join("dev/null")).unwrap();
    bundle.mount("/dev", "bind", "dev", &["rbind"]);
    bundle.config["linux"]["maskedPaths"] = json!(["/proc/keys", "/proc/timer_list"]);
    let out = bundle.run(
        "stat -c '%F %s %a' /proc/keys; cat /proc/keys /proc/timer_list; echo x > /proc/keys; cat /proc/self/mountinfo",
    );
    assert!(out.starts_with("regular empty file 0 444"), "{out}");
    assert!(mount_at(&out, "/proc/timer_list").contains(" - tmpfs "), "{out}");
    assert!(mount_at(&out, "/").contains("/rootfs / "), "nothing lies on the root: {out}");
}

fn console_link(by: By) {
    let mut bundle = with_secret(by);
    bundle.config["process"]["terminal"] = true.into();
    bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev");
    symlink("/proc/sys/kernel/core_pattern", bundle.root().join("dev/console")).unwrap();
    bundle.mount("/dev/pts", "devpts", "devpts", &["newinstance"]);
    let out = bundle.run("cat /proc/self/mountinfo");
    assert!(out.starts_with("FAILED") && out.contains("symlink"), "{out}");
    // A ptmx that is something else.
    let mut bundle = with_secret(by);
    bundle.config["process"]["terminal"] = true.into();
    fs::create_dir(bundle.host().join("pts")).unwrap();
    symlink("../null", bundle.host().join("pts/ptmx")).unwrap();
    let out = bundle.mount("/dev/pts", "bind", "pts", &["bind"]).run("");
    assert!(out.starts_with("FAILED") && out.contains("devpts"), "{out}");
}

fn sysctl_file(by: By) {
    let mut bundle = with_secret(by);
    bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/proc");
    fs::create_dir_all(bundle.root().join("proc/sys/net/ipv4")).unwrap();
    symlink(bundle.host().join("secret/file"), bundle.root().join("proc/sys/net/ipv4/ip_forward")).unwrap();
    fs::create_dir_all(bundle.root().join("proc/self")).unwrap();
    fs::write(bundle.root().join("proc/self/oom_score_adj"), "mine").unwrap();
    bundle.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
    bundle.config["process"]["oomScoreAdj"] = 700.into();
    let out = bundle.run("cat /proc/self/oom_score_adj");
    assert_eq!(out, "mine");
    untouched(&bundle);
}

fn device_links(by: By) {
    let mut bundle = with_secret(by);
    bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev");
    symlink(bundle.host().join("secret/file"), bundle.root().join("dev/zero")).unwrap();
    let out = bundle.run("");
    assert!(out.starts_with("FAILED") && out.contains("/dev/zero"), "{out}");
    untouched(&bundle);
    let mut bundle = with_secret(by);
    bundle.config["linux"]["devices"] = json!([{ "path": "/out/planted", "type": "c", "major": 1, "minor": 3 }]);
    symlink("../secret", bundle.root().join("out")).unwrap();
    let out = bundle.run("stat -c '%F' /secret/planted");
    assert_eq!(out, "character special file\n", "`..` stops at the root");
    untouched(&bundle);
}

fn magic(by: By) {
    for link in ["/proc/self/root", "/proc/self/cwd", "/proc/1/root/tmp"] {
        let mut bundle = with_secret(by);
        symlink(link, bundle.root().join("trap")).unwrap();
        let out = bundle.mount("/trap/x", "tmpfs", "tmpfs", &[]).run("");
        assert!(out.starts_with("FAILED"), "{link}: {out}");
        untouched(&bundle);
    }
}

fn workdir(by: By) {
    for cwd in [
        "/proc/self/fd/3",
        "/proc/self/fd/4",
        "/proc/self/fd/5",
        "/proc/self/fd/6",
        "/proc/self/fd/7",
        "/proc/self/fd/8",
    ] {
        let mut bundle = with_secret(by);
        bundle.config["process"]["cwd"] = cwd.into();
        let out = bundle.run("pwd; ls ..; ls ../../../../../../..");
        assert!(out.starts_with("FAILED") || !out.contains("home"), "{cwd}: {out}");
    }
}

/// An image whose list of users, or whose working directory, is a descriptor that the runtime has of the host.
fn users_outside(by: By) {
    let mut bundle = with_secret(by);
    fs::write(bundle.host().join("secret/file"), "x:y:0:0::/s3cret-home:/bin/sh\n").unwrap();
    let descriptor = format!("/proc/self/fd/{HOST}");
    symlink(format!("{descriptor}/secret/file"), bundle.root().join("etc/passwd")).unwrap();
    assert_eq!(bundle.run("echo $HOME"), "/\n");
    fs::remove_file(bundle.root().join("etc/passwd")).unwrap();
    fs::write(bundle.root().join("etc/passwd"), "x:y:0:0::/own-home:/bin/sh\n").unwrap();
    assert_eq!(bundle.run("echo $HOME"), "/own-home\n");
    // Back into the image by way of the host: the kernel would find a name for it.
    for outside in [descriptor.clone(), format!("{descriptor}/rootfs")] {
        bundle.config["process"]["cwd"] = outside.clone().into();
        let out = bundle.run("pwd");
        assert!(out.starts_with("FAILED: cannot enter the working directory"), "{outside}: {out}");
    }
}

fn copy_link(by: By) {
    let mut bundle = with_secret(by);
    symlink(bundle.host().join("secret"), bundle.root().join("data")).unwrap();
    let out = bundle.mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"]).run("cat /data/file; ls -A /data");
    assert!(!out.contains("s3cret"), "{out}");
    untouched(&bundle);
}

fn root(by: By) {
    for place in ["/", "/.", "/tmp/..", "/loop"] {
        let mut bundle = with_secret(by);
        symlink("/", bundle.root().join("loop")).unwrap();
        let out = bundle.mount(place, "tmpfs", "tmpfs", &[]).run("");
        assert!(out.starts_with("FAILED") && out.contains("root itself"), "{place}: {out}");
    }
}
