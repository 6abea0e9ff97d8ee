//! config.md, Mounts: order, kinds, sources and destinations.

use std::fs;
use std::os::unix::fs::symlink;

use sentry_tests::oci::{Bundle, Stand, mount_at};
use serde_json::json;

use crate::verdict::{Test, Unmet, Verdict, must, should};

const PLACE: &str = "config.md, Mounts";

pub const TESTS: &[Test] = &[
    must("mounts_in_the_listed_order", PLACE, "entries are mounted in the listed order", order),
    must("mount_tmpfs", PLACE, "a tmpfs with its own options", tmpfs),
    must("mount_mqueue", PLACE, "an mqueue", mqueue),
    must("mount_bind_directory", PLACE, "a bind of a directory shows it, and writes reach it", bind),
    must("mount_bind_file", PLACE, "a bind of a file onto a name that does not exist yet", bind_file),
    must("mount_bind_by_option", PLACE, "bind in the options makes a bind, whatever the type says", by_option),
    must("mount_source_relative", PLACE, "a relative source is relative to the bundle", relative_source),
    must("mount_rbind", PLACE, "rbind takes the mounts below along", |stand| below(stand, "rbind", true)),
    must("mount_bind_alone", PLACE, "bind leaves them out", |stand| below(stand, "bind", false)),
    must("mount_destination_is_made", PLACE, "a destination that does not exist is made", made),
    must("mount_destination_relative", PLACE, "a relative destination is relative to /", relative).since("1.1"),
    must(
        "mount_destination_link_stays_inside",
        PLACE,
        "a destination with symbolic links stays in the container",
        link,
    ),
    must("mount_destination_is_required", PLACE, "a mount without a destination is refused", no_destination),
    must("mount_source_must_exist", PLACE, "a bind whose source does not exist is refused", no_source),
    should("mount_readonly_after_the_root", PLACE, "a mount is made also where the root is read-only", in_readonly),
];

fn volume(bundle: &Bundle, name: &str) -> Result<String, Unmet> {
    let path = bundle.path.join(name);
    fs::create_dir_all(&path).and_then(|()| fs::write(path.join("mark"), name)).map_err(|error| error.to_string())?;
    Ok(path.to_string_lossy().into_owned())
}

fn order(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    let (first, second) = (volume(&bundle, "first")?, volume(&bundle, "second")?);
    fs::create_dir_all(bundle.path.join("first/inner")).map_err(|error| error.to_string())?;
    bundle.mount("/over", "bind", &second, &["bind"]);
    bundle.mount("/over", "bind", &first, &["bind"]);
    bundle.mount("/over/inner", "bind", &second, &["bind"]);
    let seen = &bundle.report(&["/over/mark", "/over/inner/mark"])?["paths"];
    same!(seen["/over/mark"]["content"], json!("first"), "the later one");
    same!(seen["/over/inner/mark"]["content"], json!("second"), "the one within");
    Ok(())
}

fn tmpfs(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.mount("/scratch", "tmpfs", "tmpfs", &["nosuid", "size=512k", "mode=0710"]);
    let report = bundle.report(&["/scratch"])?;
    let mount = mount_at(report["mountinfo"].as_str().unwrap_or_default(), "/scratch");
    let mount = mount.ok_or_else(|| Unmet::Failed("not mounted".to_owned()))?;
    same!(mount.kind, "tmpfs", "type");
    ensure!(mount.has("size=512k") && mount.has("nosuid"), "options {:?} {:?}", mount.options, mount.inner);
    same!(report["paths"]["/scratch"]["mode"], json!(0o710), "mode");
    Ok(())
}

fn mqueue(stand: &Stand) -> Verdict {
    let report = stand.bundle().report(&[])?;
    let mount = mount_at(report["mountinfo"].as_str().unwrap_or_default(), "/dev/mqueue");
    same!(mount.map(|mount| mount.kind).unwrap_or_default(), "mqueue", "type");
    Ok(())
}

fn bind(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    let source = volume(&bundle, "shared")?;
    bundle.mount("/data", "bind", &source, &["bind", "rw"]);
    bundle.args(["report", "--to", "/data/written", "/data/mark"]);
    same!(bundle.run()?.0, 0, "exit");
    let written = fs::read_to_string(bundle.path.join("shared/written")).unwrap_or_default();
    ensure!(written.contains("\"content\":\"shared\""), "what was written: {written:?}");
    Ok(())
}

fn bind_file(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    let source = volume(&bundle, "files")? + "/mark";
    bundle.mount("/new/place/file", "bind", &source, &["bind"]);
    same!(bundle.report(&["/new/place/file"])?["paths"]["/new/place/file"]["content"], json!("files"), "content");
    Ok(())
}

fn by_option(stand: &Stand) -> Verdict {
    for kind in ["none", "tmpfs"] {
        let mut bundle = stand.bundle();
        let source = volume(&bundle, "shared")?;
        bundle.mount("/data", kind, &source, &["rbind", "rw"]);
        same!(bundle.report(&["/data/mark"])?["paths"]["/data/mark"]["content"], json!("shared"), kind);
    }
    let mut bundle = stand.bundle();
    let source = volume(&bundle, "shared")?;
    bundle.list("/mounts").push(json!({ "destination": "/data", "source": source, "options": ["bind"] }));
    same!(bundle.report(&["/data/mark"])?["paths"]["/data/mark"]["content"], json!("shared"), "no type at all");
    Ok(())
}

fn relative_source(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    volume(&bundle, "shared")?;
    bundle.mount("/data", "bind", "shared", &["bind"]);
    same!(bundle.report(&["/data/mark"])?["paths"]["/data/mark"]["content"], json!("shared"), "content");
    Ok(())
}

fn below(stand: &Stand, option: &str, wanted: bool) -> Verdict {
    if !wanted && !stand.root {
        // The kernel refuses to show what a mount of a more privileged namespace covers.
        return crate::verdict::not_applicable("an ordinary user may not bind a directory without the mounts below it");
    }
    let mut bundle = stand.bundle();
    bundle.mount("/host-dev", "bind", "/dev", &[option, "ro"]);
    let report = bundle.report(&[])?;
    let seen = mount_at(report["mountinfo"].as_str().unwrap_or_default(), "/host-dev/pts").is_some();
    same!(seen, wanted, "/dev/pts below it");
    Ok(())
}

fn made(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.mount("/a/b/c", "tmpfs", "tmpfs", &[]);
    same!(bundle.report(&["/a/b/c"])?["paths"]["/a/b/c"]["type"], json!("directory"), "/a/b/c");
    Ok(())
}

fn relative(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.mount("rel/ative", "tmpfs", "tmpfs", &[]);
    let report = bundle.report(&[])?;
    ensure!(mount_at(report["mountinfo"].as_str().unwrap_or_default(), "/rel/ative").is_some(), "not at /rel/ative");
    Ok(())
}

fn link(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    let outside = bundle.path.join("outside");
    fs::create_dir_all(&outside).map_err(|error| error.to_string())?;
    symlink(&outside, bundle.rootfs("absolute")).map_err(|error| error.to_string())?;
    symlink("../../../../../../../../..", bundle.rootfs("up")).map_err(|error| error.to_string())?;
    bundle.mount("/absolute/a", "tmpfs", "tmpfs", &[]);
    bundle.mount("/up/b", "tmpfs", "tmpfs", &[]);
    // A runtime may refuse such a path as well.
    let report = bundle.report(&[]);
    ensure!(!outside.join("a").exists(), "{} was made outside", outside.join("a").display());
    ensure!(!std::path::Path::new("/b").exists(), "/b was made on the host");
    if let Ok(report) = report {
        let table = report["mountinfo"].as_str().unwrap_or_default();
        ensure!(mount_at(table, "/b").is_some(), "/up/b is nowhere: {table}");
    }
    Ok(())
}

fn no_destination(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.list("/mounts").push(json!({ "type": "tmpfs", "source": "tmpfs" }));
    bundle.is_refused()?;
    Ok(())
}

fn no_source(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.mount("/data", "bind", "/no/such/source", &["bind"]);
    bundle.is_refused()?;
    Ok(())
}

fn in_readonly(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["root"]["readonly"] = json!(true);
    let source = volume(&bundle, "shared")?;
    bundle.mount("/made/now", "bind", &source, &["bind", "rw"]);
    let seen = &bundle.report(&["/made/now", "/made"])?["paths"];
    same!(seen["/made/now"]["write"], json!(0), "in the mount");
    same!(seen["/made"]["write"], json!(libc::EROFS), "beside it");
    Ok(())
}
