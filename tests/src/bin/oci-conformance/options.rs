//! config.md, Linux mount options: each one against the kernel's table of mounts.

use std::fs;

use sentry_tests::oci::{Mount, Stand, mount_at, mounts};
use serde_json::json;

use crate::verdict::{Level, Test, Unmet, Verdict, must, not_applicable, should};

const PLACE: &str = "config.md, Linux mount options";

/// An option of a tmpfs, what the table must show, and what it must not. That a later option overrules an earlier one is how
/// mount(8) has it, to which the specification refers.
macro_rules! option {
    ($level:ident $id:literal [$($given:literal),*] [$($shown:literal),*] [$($hidden:literal),*]) => {
        Test {
            id: $id,
            place: PLACE,
            level: Level::$level,
            asks: concat!("options", $(" ", $given),*),
            since: "1.0",
            run: |stand| shows(stand, &[$($given),*], &[$($shown),*], &[$($hidden),*]),
        }
    };
}

pub const TESTS: &[Test] = &[
    option!(Must "option_ro" ["ro"] ["ro"] ["rw"]),
    option!(Should "option_rw" ["ro", "rw"] ["rw"] ["ro"]),
    option!(Must "option_nosuid" ["nosuid"] ["nosuid"] []),
    option!(Should "option_suid" ["nosuid", "suid"] [] ["nosuid"]),
    option!(Must "option_nodev" ["nodev"] ["nodev"] []),
    option!(Must "option_noexec" ["noexec"] ["noexec"] []),
    option!(Should "option_exec" ["noexec", "exec"] [] ["noexec"]),
    option!(Must "option_noatime" ["noatime"] ["noatime"] ["relatime"]),
    option!(Should "option_atime" ["noatime", "atime"] [] ["noatime"]),
    option!(Must "option_relatime" ["relatime"] ["relatime"] []),
    option!(Must "option_strictatime" ["strictatime"] [] ["relatime", "noatime"]),
    option!(Must "option_nodiratime" ["nodiratime"] ["nodiratime"] []),
    option!(Should "option_diratime" ["nodiratime", "diratime"] [] ["nodiratime"]),
    option!(Must "option_sync" ["sync"] ["sync"] []),
    option!(Should "option_async" ["sync", "async"] [] ["sync"]),
    option!(Must "option_dirsync" ["dirsync"] ["dirsync"] []),
    option!(Must "option_lazytime" ["lazytime"] ["lazytime"] []),
    option!(Should "option_nolazytime" ["lazytime", "nolazytime"] [] ["lazytime"]),
    option!(Must "option_defaults" ["defaults"] ["rw"] ["ro"]),
    option!(Must "option_silent_and_loud" ["silent", "loud"] ["rw"] []),
    option!(Must "option_iversion" ["iversion", "noiversion"] ["rw"] []),
    option!(Must "option_norelatime" ["norelatime"] ["rw"] []),
    option!(Must "option_nostrictatime" ["nostrictatime"] ["rw"] []),
    option!(Should "option_dev" ["nodev", "dev"] [] []),
    option!(Should "option_nosymfollow" ["nosymfollow"] ["nosymfollow"] []),
    option!(Should "option_symfollow" ["nosymfollow", "symfollow"] [] ["nosymfollow"]),
    must("option_private", PLACE, "options private", |stand| propagates(stand, "private", &[])),
    must("option_rprivate", PLACE, "options rprivate", |stand| propagates(stand, "rprivate", &[])),
    must("option_shared", PLACE, "options shared", |stand| propagates(stand, "shared", &["shared:"])),
    must("option_rshared", PLACE, "options rshared", |stand| propagates(stand, "rshared", &["shared:"])),
    must("option_slave", PLACE, "options slave: no error", |stand| propagates(stand, "slave", &[])),
    must("option_rslave", PLACE, "options rslave: no error", |stand| propagates(stand, "rslave", &[])),
    must("option_unbindable", PLACE, "options unbindable", |stand| propagates(stand, "unbindable", &["unbindable"])),
    must("option_runbindable", PLACE, "options runbindable", |stand| propagates(stand, "runbindable", &["unbindable"])),
    must("option_bind_ro", PLACE, "options bind ro: the bind is read-only, its source is not", bind_ro),
    must("option_bind_flags", PLACE, "options bind nosuid nodev noexec", bind_flags),
    must("option_remount", PLACE, "options remount ro: an earlier mount is changed", remount),
    must(
        "option_unknown_is_for_the_file_system",
        PLACE,
        "what is no option of mount(2) goes to the file system, which refuses it",
        unknown,
    ),
    should("option_rro", PLACE, "options rbind rro: read-only with all below", rro).since("1.1"),
    should("option_recursive_flags", PLACE, "options rbind rnosuid rnodev rnoexec: with all below", recursive)
        .since("1.1"),
    should("option_tmpcopyup", PLACE, "options tmpcopyup: the tmpfs holds what it covers", tmpcopyup).since("1.1"),
    should("option_idmap", "config.md, Mounts", "uidMappings and gidMappings of a mount", idmap).since("1.2"),
];

fn seen(report: &serde_json::Value, point: &str) -> Result<Mount, Unmet> {
    mount_at(report["mountinfo"].as_str().unwrap_or_default(), point)
        .ok_or_else(|| Unmet::Failed(format!("nothing is mounted at {point}")))
}

fn shows(stand: &Stand, given: &[&str], shown: &[&str], hidden: &[&str]) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.mount("/opt", "tmpfs", "tmpfs", given);
    let report = bundle.report(&[])?;
    let mount = seen(&report, "/opt")?;
    let all = format!("{:?} and {:?}", mount.options, mount.inner);
    for option in shown {
        ensure!(mount.has(option), "{option} is not among {all}");
    }
    for option in hidden {
        // "rw" of the file system says nothing about the mount.
        ensure!(!mount.options.iter().any(|known| known == option), "{option} is among {all}");
    }
    Ok(())
}

fn propagates(stand: &Stand, word: &str, wanted: &[&str]) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.mount("/opt", "tmpfs", "tmpfs", &[word]);
    let mount = seen(&bundle.report(&[])?, "/opt")?;
    let found = wanted.iter().all(|wanted| mount.propagation.iter().any(|tag| tag.starts_with(wanted)));
    ensure!(found && mount.propagation.len() == wanted.len(), "propagation {:?}", mount.propagation);
    Ok(())
}

fn volume(bundle: &sentry_tests::oci::Bundle) -> String {
    let path = bundle.path.join("volume");
    let _ = fs::create_dir_all(&path);
    let _ = fs::write(path.join("mark"), "mark");
    path.to_string_lossy().into_owned()
}

fn bind_ro(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    let source = volume(&bundle);
    bundle.mount("/fixed", "bind", &source, &["bind", "ro"]);
    bundle.mount("/free", "bind", &source, &["bind"]);
    let report = bundle.report(&["/fixed", "/free", "/fixed/mark"])?;
    same!(report["paths"]["/fixed"]["write"], json!(libc::EROFS), "the read-only one");
    same!(report["paths"]["/fixed/mark"]["write"], json!(libc::EROFS), "a file in it");
    same!(report["paths"]["/free"]["write"], json!(0), "the other one");
    Ok(())
}

fn bind_flags(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    let source = volume(&bundle);
    bundle.mount("/opt", "bind", &source, &["bind", "nosuid", "nodev", "noexec"]);
    let mount = seen(&bundle.report(&[])?, "/opt")?;
    ensure!(["nosuid", "nodev", "noexec", "rw"].iter().all(|option| mount.has(option)), "options {:?}", mount.options);
    Ok(())
}

fn remount(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.mount("/opt", "tmpfs", "tmpfs", &["nosuid"]);
    bundle.mount("/opt", "tmpfs", "tmpfs", &["remount", "ro", "nosuid"]);
    let report = bundle.report(&["/opt"])?;
    same!(report["paths"]["/opt"]["write"], json!(libc::EROFS), "write");
    let table = report["mountinfo"].as_str().unwrap_or_default();
    same!(mounts(table).iter().filter(|mount| mount.point == "/opt").count(), 1, "mounts at /opt");
    Ok(())
}

fn unknown(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.mount("/opt", "tmpfs", "tmpfs", &["nosuchoption=1"]);
    bundle.is_refused()?;
    Ok(())
}

/// A host's tree with a mount below: `/dev` with `/dev/pts`.
fn rro(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.mount("/host-dev", "bind", "/dev", &["rbind", "rro"]);
    let report = bundle.report(&[])?;
    for point in ["/host-dev", "/host-dev/pts"] {
        let mount = seen(&report, point)?;
        ensure!(mount.options.iter().any(|option| option == "ro"), "{point}: {:?}", mount.options);
    }
    Ok(())
}

fn recursive(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.mount("/host-dev", "bind", "/dev", &["rbind", "rnosuid", "rnodev", "rnoexec"]);
    let report = bundle.report(&[])?;
    for point in ["/host-dev", "/host-dev/pts"] {
        let mount = seen(&report, point)?;
        ensure!(["nosuid", "nodev", "noexec"].iter().all(|option| mount.has(option)), "{point}: {:?}", mount.options);
    }
    Ok(())
}

fn tmpcopyup(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    fs::create_dir_all(bundle.rootfs("full/deep"))
        .and_then(|()| fs::write(bundle.rootfs("full/deep/file"), "copied"))
        .map_err(|error| error.to_string())?;
    bundle.mount("/full", "tmpfs", "tmpfs", &["tmpcopyup"]);
    let report = bundle.report(&["/full/deep/file"])?;
    same!(seen(&report, "/full")?.kind, "tmpfs", "type");
    same!(report["paths"]["/full/deep/file"]["content"], json!("copied"), "content");
    Ok(())
}

fn idmap(stand: &Stand) -> Verdict {
    if !stand.root {
        return not_applicable("the kernel lets only root of the file system's namespace map ids of a mount");
    }
    let mut bundle = stand.bundle();
    let source = volume(&bundle);
    bundle.add_namespace("user");
    let map = json!([{ "containerID": 0, "hostID": 200_000, "size": 65_536 }]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map.clone();
    // The root file system must be reachable for the mapped root.
    for path in ["", "proc", "sys", "dev", "tmp", "etc", "probe"] {
        let _ = std::os::unix::fs::chown(bundle.rootfs(path), Some(200_000), Some(200_000));
    }
    bundle.list("/mounts").push(json!({
        "destination": "/opt", "type": "bind", "source": source, "options": ["bind", "idmap"], "uidMappings": map, "gidMappings": map,
    }));
    let report = bundle.report(&["/opt/mark"])?;
    same!(report["paths"]["/opt/mark"]["uid"], json!(0), "the owner of a file of the host's root");
    Ok(())
}
