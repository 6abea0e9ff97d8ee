//! The root file system, what is mounted by default, what is masked and read-only, names, sysctls, personality.

use std::fs;

use sentry_tests::oci::{Stand, mount_at};
use serde_json::{Value, json};

use crate::verdict::{Test, Unmet, Verdict, must, not_applicable, should};

const ROOT: &str = "config.md, Root";
const DEFAULT: &str = "config-linux.md, Default Filesystems";
const MASKED: &str = "config-linux.md, Masked Paths";
const READONLY: &str = "config-linux.md, Readonly Paths";
const SYSCTL: &str = "config-linux.md, Sysctl";
const PROPAGATION: &str = "config-linux.md, Rootfs Mount Propagation";

const EROFS: i32 = libc::EROFS;

pub const TESTS: &[Test] = &[
    must("root_relative", ROOT, "a relative path is relative to the bundle", |stand| root_at(stand, false)),
    must("root_absolute", ROOT, "an absolute path", |stand| root_at(stand, true)),
    must("root_must_exist", ROOT, "a root that does not exist is refused", |stand| root_refused(stand, "nowhere")),
    must("root_must_be_a_directory", ROOT, "a root that is no directory is refused", |stand| {
        root_refused(stand, "config.json")
    }),
    must("root_readonly", ROOT, "readonly: nothing in it can be written", readonly),
    must("root_writable", ROOT, "without readonly it can be written", writable),
    should("root_hides_the_host", ROOT, "the host's root is not mounted in the container", hides),
    should("filesystem_proc", DEFAULT, "/proc is proc", |stand| kind(stand, "/proc", "proc")),
    should("filesystem_sys", DEFAULT, "/sys is sysfs", |stand| kind(stand, "/sys", "sysfs")),
    should("filesystem_pts", DEFAULT, "/dev/pts is devpts", |stand| kind(stand, "/dev/pts", "devpts")),
    should("filesystem_shm", DEFAULT, "/dev/shm is tmpfs", |stand| kind(stand, "/dev/shm", "tmpfs")),
    must("hostname", "config.md, Hostname", "hostname is the one in the UTS namespace", hostname),
    must("domainname", "config.md, Domainname", "domainname is the one in the UTS namespace", domainname).since("1.1"),
    must("masked_file", MASKED, "a masked file cannot be read", masked_file),
    must("masked_directory", MASKED, "a masked directory shows nothing", masked_directory),
    must("masked_absent", MASKED, "a masked path that does not exist is no error", masked_absent),
    must("readonly_file", READONLY, "a read-only file cannot be written", readonly_file),
    must("readonly_directory", READONLY, "in a read-only directory nothing can be made", readonly_directory),
    must("readonly_sys", READONLY, "/proc/sys is read-only and its neighbours are not", readonly_sys),
    must("readonly_absent", READONLY, "a read-only path that does not exist is no error", readonly_absent),
    must("sysctl_network", SYSCTL, "a parameter of the network namespace is set", sysctl_network),
    must("sysctl_ipc", SYSCTL, "a parameter of the IPC namespace is set", sysctl_ipc),
    must("sysctl_unknown", SYSCTL, "a parameter that cannot be set is an error", sysctl_unknown),
    must("propagation_private", PROPAGATION, "private: the root takes part in nothing", |stand| {
        propagation(stand, "private", "")
    }),
    must("propagation_slave", PROPAGATION, "slave: the root receives from outside", |stand| {
        propagation(stand, "slave", "master:")
    }),
    must("propagation_shared", PROPAGATION, "shared: the root has a peer group", |stand| {
        propagation(stand, "shared", "shared:")
    }),
    must("propagation_unbindable", PROPAGATION, "unbindable: the root cannot be bound", |stand| {
        propagation(stand, "unbindable", "unbindable")
    }),
    must("personality_linux32", "config-linux.md, Personality", "LINUX32: uname shows a 32-bit machine", linux32),
    must("personality_invalid", "config-linux.md, Personality", "an unknown domain is refused", bad_personality),
];

fn root_at(stand: &Stand, absolute: bool) -> Verdict {
    let mut bundle = stand.bundle();
    let other = bundle.path.join("other-root");
    fs::rename(bundle.rootfs(""), &other).map_err(|error| error.to_string())?;
    fs::write(other.join("mark"), "here").map_err(|error| error.to_string())?;
    bundle.config["root"]["path"] = if absolute { json!(other) } else { json!("other-root") };
    same!(bundle.report(&["/mark"])?["paths"]["/mark"]["content"], json!("here"), "a file in it");
    Ok(())
}

fn root_refused(stand: &Stand, path: &str) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["root"]["path"] = json!(path);
    bundle.is_refused()?;
    Ok(())
}

fn readonly(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["root"]["readonly"] = json!(true);
    let report = bundle.report(&["/", "/tmp", "/etc", "/dev/shm"])?;
    for path in ["/", "/tmp", "/etc"] {
        same!(report["paths"][path]["write"], json!(EROFS), path);
    }
    same!(report["paths"]["/dev/shm"]["write"], json!(0), "/dev/shm, a mount of its own");
    Ok(())
}

fn writable(stand: &Stand) -> Verdict {
    let report = stand.bundle().report(&["/", "/tmp"])?;
    same!([&report["paths"]["/"]["write"], &report["paths"]["/tmp"]["write"]], [&json!(0), &json!(0)], "/ and /tmp");
    Ok(())
}

fn hides(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    let report = bundle.report(&["/"])?;
    let table = report["mountinfo"].as_str().unwrap_or_default();
    let root = mount_at(table, "/").ok_or_else(|| Unmet::Failed("no mount at /".to_owned()))?;
    ensure!(root.root.ends_with("rootfs"), "/ is {} of its file system", root.root);
    let foreign = ["proc", "sys", "dev", "tmp", "etc", "probe"];
    let names: Vec<&str> =
        report["paths"]["/"]["entries"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    ensure!(names.iter().all(|name| foreign.contains(name)), "/ holds {names:?}");
    Ok(())
}

fn kind(stand: &Stand, point: &str, wanted: &str) -> Verdict {
    let report = stand.bundle().report(&[])?;
    let mount = mount_at(report["mountinfo"].as_str().unwrap_or_default(), point);
    same!(mount.map(|mount| mount.kind).unwrap_or_default(), wanted, point);
    Ok(())
}

fn hostname(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["hostname"] = json!("mrsdalloway");
    same!(bundle.report(&[])?["hostname"], json!("mrsdalloway"), "uname");
    Ok(())
}

fn domainname(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["domainname"] = json!("foobarbaz.test");
    same!(bundle.report(&[])?["domainname"], json!("foobarbaz.test"), "uname");
    Ok(())
}

fn masked_file(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    fs::write(bundle.rootfs("etc/secret"), "secret").map_err(|error| error.to_string())?;
    bundle.config["linux"]["maskedPaths"] = json!(["/etc/secret", "/proc/version"]);
    let report = bundle.report(&["/etc/secret", "/proc/version"])?;
    for path in ["/etc/secret", "/proc/version"] {
        same!(report["paths"][path]["content"], json!(""), path);
    }
    Ok(())
}

fn masked_directory(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    fs::create_dir_all(bundle.rootfs("etc/secrets/deep")).map_err(|error| error.to_string())?;
    bundle.config["linux"]["maskedPaths"] = json!(["/etc/secrets", "/proc/fs"]);
    let report = bundle.report(&["/etc/secrets", "/etc/secrets/deep", "/proc/fs"])?;
    same!(report["paths"]["/etc/secrets"]["entries"], json!([]), "its entries");
    same!(report["paths"]["/etc/secrets/deep"]["type"], json!("absent"), "what is in it");
    same!(report["paths"]["/proc/fs"]["entries"], json!([]), "entries of /proc/fs");
    Ok(())
}

fn masked_absent(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["linux"]["maskedPaths"] = json!(["/no/such/path", "/proc/no-such-file"]);
    same!(bundle.report(&["/no"])?["paths"]["/no"]["type"], json!("absent"), "the path");
    Ok(())
}

fn readonly_file(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    fs::write(bundle.rootfs("etc/fixed"), "fixed").map_err(|error| error.to_string())?;
    bundle.config["linux"]["readonlyPaths"] = json!(["/etc/fixed"]);
    let seen = &bundle.report(&["/etc/fixed", "/etc"])?["paths"];
    same!(seen["/etc/fixed"]["write"], json!(EROFS), "write");
    same!(seen["/etc/fixed"]["content"], json!("fixed"), "content");
    same!(seen["/etc"]["write"], json!(0), "beside it");
    Ok(())
}

fn readonly_directory(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    fs::create_dir_all(bundle.rootfs("etc/fixed/deep")).map_err(|error| error.to_string())?;
    bundle.config["linux"]["readonlyPaths"] = json!(["/etc/fixed"]);
    let seen = &bundle.report(&["/etc/fixed", "/etc/fixed/deep"])?["paths"];
    same!(seen["/etc/fixed"]["write"], json!(EROFS), "in it");
    same!(seen["/etc/fixed/deep"]["write"], json!(EROFS), "deep in it");
    Ok(())
}

fn readonly_sys(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
    let report = bundle.report(&["/proc/sys/net/ipv4/ip_forward", "/proc/self/comm"])?;
    let seen = &report["paths"];
    // Without the right to change it at all the kernel says EACCES.
    let refused = [json!(EROFS), json!(libc::EACCES)].contains(&seen["/proc/sys/net/ipv4/ip_forward"]["write"]);
    ensure!(refused, "writing into /proc/sys gives {}", seen["/proc/sys/net/ipv4/ip_forward"]["write"]);
    let mount = mount_at(report["mountinfo"].as_str().unwrap_or_default(), "/proc/sys");
    ensure!(
        mount.is_some_and(|mount| mount.options.iter().any(|option| option == "ro")),
        "/proc/sys is no read-only mount"
    );
    same!(seen["/proc/self/comm"]["write"], json!(0), "/proc/self/comm");
    Ok(())
}

fn readonly_absent(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["linux"]["readonlyPaths"] = json!(["/no/such/path"]);
    bundle.report(&[])?;
    Ok(())
}

fn sysctl_network(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1", "net.ipv4.ping_group_range": "0 0" });
    let (forward, range) = ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/ping_group_range");
    let seen = &bundle.report(&[forward, range])?["paths"];
    same!(seen[forward]["content"], json!("1\n"), forward);
    same!(seen[range]["content"], json!("0\t0\n"), range);
    Ok(())
}

fn sysctl_ipc(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["linux"]["sysctl"] = json!({ "kernel.msgmax": "4321" });
    let path = "/proc/sys/kernel/msgmax";
    same!(bundle.report(&[path])?["paths"][path]["content"], json!("4321\n"), path);
    Ok(())
}

fn sysctl_unknown(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["linux"]["sysctl"] = json!({ "net.ipv4.no_such_parameter": "1" });
    bundle.is_refused()?;
    Ok(())
}

fn propagation(stand: &Stand, word: &str, wanted: &str) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["linux"]["rootfsPropagation"] = json!(word);
    let report = bundle.report(&[])?;
    let root = mount_at(report["mountinfo"].as_str().unwrap_or_default(), "/");
    let seen = root.ok_or_else(|| Unmet::Failed("no mount at /".to_owned()))?.propagation;
    if wanted == "master:" && !host_shares(stand) {
        return not_applicable(
            "the mounts of this host belong to no peer group, from which anything could be received",
        );
    }
    let found = if wanted.is_empty() { seen.is_empty() } else { seen.iter().any(|tag| tag.starts_with(wanted)) };
    ensure!(found, "the root's mount says {seen:?}");
    Ok(())
}

fn host_shares(stand: &Stand) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let below = sentry_tests::oci::mounts(&table).into_iter().filter(|mount| stand.directory.starts_with(&mount.point));
    below
        .max_by_key(|mount| mount.point.len())
        .is_some_and(|mount| mount.propagation.iter().any(|tag| tag.starts_with("shared")))
}

fn linux32(stand: &Stand) -> Verdict {
    if !cfg!(target_arch = "x86_64") {
        return not_applicable("what LINUX32 shows is known for x86-64 only");
    }
    let mut bundle = stand.bundle();
    bundle.config["linux"]["personality"] = json!({ "domain": "LINUX32" });
    same!(bundle.report(&[])?["machine"], json!("i686"), "uname");
    Ok(())
}

fn bad_personality(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["linux"]["personality"] = json!({ "domain": "MULTICS" });
    bundle.is_refused()?;
    Ok(())
}
