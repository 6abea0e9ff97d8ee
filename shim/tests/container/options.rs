//! Every option of a mount against what `/proc/self/mountinfo` says of it.

use std::fs;
use std::os::unix::fs::symlink;

use crate::{Bundle, By, Case, mount_at, options_of};

pub const CASES: &[Case] = &[
    ("options_of_a_tmpfs", of_tmpfs),
    ("options_of_a_bind", of_binds),
    ("recursive_options_reach_what_is_beneath", recursive),
    ("propagation", propagation),
    ("root_propagation", root_propagation),
    ("data_for_the_file_system", data),
    ("what_a_file_system_does_not_know_is_an_error", unknown),
    ("tmpcopyup", copy_up),
    ("files_and_directories_are_bound_as_what_they_are", kinds),
    ("symlinks_are_copied_or_mounted_themselves", symlinks),
    ("remount", remount),
    ("overlay", overlay),
    ("a_relative_source_is_the_bundles", relative),
    ("mapped_ids", mapped),
    ("what_is_mounted_inside_stays_inside", outside),
    ("cgroup_without_groups", cgroup),
];

/// Option, what is then there, what is then not.
const OF_ONE: [(&[&str], &[&str], &[&str]); 20] = [
    (&[], &["rw", "relatime"], &["nosuid", "nodev", "noexec"]),
    (&["ro"], &["ro"], &["rw"]),
    (&["ro", "rw"], &["rw"], &["ro"]),
    (&["nosuid"], &["nosuid"], &["nodev"]),
    (&["nosuid", "suid"], &[], &["nosuid"]),
    (&["nodev"], &["nodev"], &[]),
    (&["nodev", "dev"], &[], &["nodev"]),
    (&["noexec"], &["noexec"], &[]),
    (&["noexec", "exec"], &[], &["noexec"]),
    (&["noatime"], &["noatime"], &["relatime"]),
    (&["noatime", "atime"], &["relatime"], &["noatime"]),
    (&["strictatime"], &[], &["relatime", "noatime"]),
    (&["strictatime", "relatime"], &["relatime"], &[]),
    (&["nodiratime"], &["nodiratime", "relatime"], &[]),
    (&["nodiratime", "diratime"], &[], &["nodiratime"]),
    (&["nosymfollow"], &["nosymfollow"], &[]),
    (&["nosymfollow", "symfollow"], &[], &["nosymfollow"]),
    (&["defaults"], &["rw"], &["nosuid"]),
    (&["rro", "rnosuid", "rnodev", "rnoexec", "rnoatime"], &["ro", "nosuid", "nodev", "noexec", "noatime"], &["rw"]),
    (&["silent", "loud", "noacl", "iversion"], &["rw"], &[]),
];

fn check(name: &str, line: &str, (options, there, absent): (&[&str], &[&str], &[&str])) {
    let found = options_of(line);
    for option in there {
        assert!(found.contains(option), "{name} {options:?}: no {option} in {line}");
    }
    for option in absent {
        assert!(!found.contains(option), "{name} {options:?}: {option} in {line}");
    }
}

fn of_tmpfs(by: By) {
    let mut bundle = Bundle::new(by);
    for (index, (options, ..)) in OF_ONE.iter().enumerate() {
        bundle.mount(&format!("/t/{index}"), "tmpfs", "tmpfs", options);
    }
    bundle.mount("/t/sync", "tmpfs", "tmpfs", &["sync", "dirsync", "lazytime"]);
    let out = bundle.run("cat /proc/self/mountinfo");
    for (index, row) in OF_ONE.iter().enumerate() {
        check("tmpfs", mount_at(&out, &format!("/t/{index}")), *row);
    }
    let line = mount_at(&out, "/t/sync");
    let system = line.split(' ').next_back().unwrap();
    for flag in ["sync", "dirsync", "lazytime"] {
        assert!(system.split(',').any(|option| option == flag), "{line}");
    }
}

fn of_binds(by: By) {
    let mut bundle = Bundle::new(by);
    fs::create_dir(bundle.host().join("volume")).unwrap();
    for (index, (options, ..)) in OF_ONE.iter().enumerate() {
        let options = [&["rbind"], *options].concat();
        bundle.mount(&format!("/b/{index}"), "none", "volume", &options);
    }
    let out = bundle.run("cat /proc/self/mountinfo");
    for (index, row) in OF_ONE.iter().enumerate() {
        // How a mount of the host counts access times is locked for a user.
        if by == By::Root || !row.0.iter().any(|option| option.ends_with("time")) {
            check("bind", mount_at(&out, &format!("/b/{index}")), *row);
        }
    }
}

fn recursive(by: By) {
    let mut bundle = Bundle::new(by);
    // A tree with a mount beneath, made by the configuration itself.
    bundle.mount("/proc-copy", "bind", "/dev", &["rbind", "rro", "rnosuid", "rnoexec"]);
    bundle.mount("/only-top", "bind", "/dev", &["rbind", "ro"]);
    let out = bundle.run("cat /proc/self/mountinfo");
    let beneath = |top: &str| -> Vec<Vec<String>> {
        let lines = out
            .lines()
            .filter(|line| line.split(' ').nth(4).is_some_and(|place| place.starts_with(&format!("{top}/"))));
        lines.map(|line| options_of(line).into_iter().map(str::to_owned).collect()).collect()
    };
    assert!(!beneath("/proc-copy").is_empty(), "{out}");
    for options in beneath("/proc-copy") {
        assert!(
            ["ro", "nosuid", "noexec"].iter().all(|wanted| options.iter().any(|option| option == wanted)),
            "{options:?}"
        );
    }
    assert!(beneath("/only-top").iter().any(|options| options.iter().any(|option| option == "rw")), "{out}");
}

fn propagation(by: By) {
    let mut bundle = Bundle::new(by);
    fs::create_dir(bundle.host().join("volume")).unwrap();
    for kind in ["private", "slave", "shared", "unbindable", "rprivate", "rslave", "rshared", "runbindable"] {
        bundle.mount(&format!("/p/{kind}"), "bind", "volume", &["bind", kind]);
        bundle.mount(&format!("/q/{kind}"), "tmpfs", "tmpfs", &[kind]);
    }
    let out = bundle.run("cat /proc/self/mountinfo");
    let tags = |place: &str| {
        mount_at(&out, place).split(' ').skip(6).take_while(|field| *field != "-").collect::<Vec<_>>().join(" ")
    };
    for base in ["/p", "/q"] {
        assert!(
            tags(&format!("{base}/shared")).contains("shared:") && tags(&format!("{base}/rshared")).contains("shared:"),
            "{out}"
        );
        assert!(tags(&format!("{base}/private")).is_empty() && tags(&format!("{base}/rprivate")).is_empty(), "{out}");
        assert!(!tags(&format!("{base}/slave")).contains("shared:"), "{out}");
        assert!(tags(&format!("{base}/unbindable")).contains("unbindable"), "{out}");
    }
}

fn root_propagation(by: By) {
    for (kind, tag) in
        [("shared", "shared:"), ("rshared", "shared:"), ("slave", ""), ("private", ""), ("unbindable", "unbindable")]
    {
        let mut bundle = Bundle::new(by);
        bundle.config["linux"]["rootfsPropagation"] = kind.into();
        let out = bundle.run("cat /proc/self/mountinfo");
        let line = mount_at(&out, "/");
        let tags = line.split(' ').skip(6).take_while(|field| *field != "-").collect::<Vec<_>>().join(" ");
        assert!(tags.contains(tag) && tags.is_empty() == tag.is_empty(), "{kind}: {line}");
        let outside = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!outside.contains("container-"), "nothing shows outside: {outside}");
    }
}

fn data(by: By) {
    let mut bundle = Bundle::new(by);
    fs::create_dir(bundle.root().join("kept")).unwrap();
    fs::set_permissions(bundle.root().join("kept"), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    bundle.mount("/shm", "tmpfs", "shm", &["size=65536k,mode=1700", "nr_inodes=100"]);
    bundle.mount("/kept", "tmpfs", "tmpfs", &["size=1m"]);
    let out = bundle.run("stat -c %a /shm /kept; cat /proc/self/mountinfo");
    assert!(out.starts_with("1700\n1777\n"), "{out}");
    let line = mount_at(&out, "/shm");
    assert!(
        line.contains(" - tmpfs shm ")
            && line.contains("size=64k,").eq(&false)
            && line.contains("size=65536k")
            && line.contains("nr_inodes=100"),
        "{line}"
    );
}

fn unknown(by: By) {
    let out = Bundle::new(by).mount("/x", "tmpfs", "tmpfs", &["nonsense=1"]).run("");
    assert!(
        out.starts_with("FAILED: cannot mount /x: give a tmpfs the option nonsense=1")
            && out.contains("Unknown parameter"),
        "{out}"
    );
    let out = Bundle::new(by).mount("/x", "nosuchfs", "x", &[]).run("");
    assert!(out.starts_with("FAILED") && out.contains("does not know the type"), "{out}");
    let out = Bundle::new(by).mount("/x", "bind", "/no/such/source", &["rbind"]).run("");
    assert!(out.starts_with("FAILED") && out.contains("/no/such/source"), "{out}");
}

fn copy_up(by: By) {
    let mut bundle = Bundle::new(by);
    let data = bundle.root().join("data");
    fs::create_dir_all(data.join("sub/deeper")).unwrap();
    fs::write(data.join("sub/file"), "text").unwrap();
    symlink("/etc/shadow", data.join("link")).unwrap();
    symlink("sub/file", data.join("sub/inner")).unwrap();
    fs::set_permissions(data.join("sub/file"), std::os::unix::fs::PermissionsExt::from_mode(0o4751)).unwrap();
    fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o750)).unwrap();
    bundle.mount("/data", "tmpfs", "tmpfs", &["tmpcopyup", "ro"]);
    let out = bundle.run("cat /data/sub/file; echo; stat -c %a /data /data/sub/file; readlink /data/link; readlink /data/sub/inner; touch /data/x; ls -d /data/sub/deeper");
    assert!(out.starts_with("text\n750\n"), "{out}");
    // That the image is given to the user takes its set-id bits.
    let mode = if by == By::Root { "4751" } else { "751" };
    assert!(out.contains(&format!("{mode}\n/etc/shadow\nsub/file\n")) && out.contains("/data/sub/deeper\n"), "{out}");
    assert!(out.contains("Read-only file system"), "{out}");
}

fn kinds(by: By) {
    let mut bundle = Bundle::new(by);
    fs::write(bundle.host().join("file"), "content").unwrap();
    bundle.mount("/new/place/file", "bind", "file", &["bind", "ro"]);
    let out = bundle.run("cat /new/place/file; echo; echo x > /new/place/file");
    assert!(out.starts_with("content\n") && out.contains("Read-only"), "{out}");
    fs::create_dir(bundle.root().join("directory")).unwrap();
    let out = bundle.mount("/directory", "bind", "file", &["bind"]).run("");
    assert!(out.starts_with("FAILED: cannot mount /directory"), "{out}");
}

fn symlinks(by: By) {
    let mut bundle = Bundle::new(by);
    symlink("/etc/passwd", bundle.host().join("link")).unwrap();
    symlink("/elsewhere", bundle.root().join("taken")).unwrap();
    bundle.mount("/copied", "bind", "link", &["bind", "copy-symlink"]);
    bundle.mount("/taken", "bind", "link", &["bind", "src-nofollow", "dest-nofollow"]);
    let out = bundle.run("readlink /copied; readlink /taken");
    assert_eq!(out, "/etc/passwd\n/etc/passwd\n");
}

fn remount(by: By) {
    let mut bundle = Bundle::new(by);
    bundle.mount("/r", "tmpfs", "tmpfs", &["size=64k"]);
    bundle.mount("/r", "none", "none", &["remount", "bind", "ro", "nosuid"]);
    bundle.mount("/s", "tmpfs", "tmpfs", &["size=64k"]);
    bundle.mount("/s", "tmpfs", "tmpfs", &["remount", "size=128k"]);
    let out = bundle.run("cat /proc/self/mountinfo");
    assert!(["ro", "nosuid"].iter().all(|option| options_of(mount_at(&out, "/r")).contains(option)), "{out}");
    assert!(mount_at(&out, "/s").contains("size=128k"), "{out}");
}

fn overlay(by: By) {
    let mut bundle = Bundle::new(by);
    for name in ["lower,1", "upper", "work"] {
        fs::create_dir(bundle.root().join("tmp").join(name)).unwrap();
    }
    fs::write(bundle.root().join("tmp/lower,1/file"), "below").unwrap();
    let at = |name: &str| bundle.root().join("tmp").join(name).display().to_string();
    let options = [
        format!("lowerdir={}", at("lower\\,1")),
        format!("upperdir={}", at("upper")),
        format!("workdir={}", at("work")),
    ];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let out = bundle
        .mount("/merged", "overlay", "overlay", &options)
        .run("cat /merged/file; echo; echo new > /merged/new && cat /merged/new");
    assert_eq!(out, "below\nnew\n");
    assert!(bundle.root().join("tmp/upper/new").exists());
}

fn relative(by: By) {
    let mut bundle = Bundle::new(by);
    fs::create_dir_all(bundle.host().join("a/b")).unwrap();
    fs::write(bundle.host().join("a/b/file"), "here").unwrap();
    assert_eq!(bundle.mount("/a", "bind", "a/b", &["bind"]).run("cat /a/file"), "here");
}

fn mapped(by: By) {
    let mut bundle = Bundle::new(by);
    fs::create_dir(bundle.host().join("volume")).unwrap();
    fs::write(bundle.host().join("volume/file"), "").unwrap();
    bundle.mount("/v", "bind", "volume", &["bind", "idmap"]);
    let mapping = serde_json::json!([{ "containerID": 0, "hostID": 4000, "size": 10 }]);
    let mount = bundle.config["mounts"].as_array_mut().unwrap().last_mut().unwrap();
    mount["uidMappings"] = mapping.clone();
    mount["gidMappings"] = mapping;
    let out = bundle.run("stat -c %u:%g /v/file");
    match by {
        By::Root => assert_eq!(out, "4000:4000\n"),
        By::User => assert!(out.starts_with("FAILED") && out.contains("map the ids of"), "{out}"),
    }
}

/// A copy of the caller's mount that is its peer would show outside what is mounted inside.
fn outside(by: By) {
    if by == By::User {
        return; // No id may be mapped, and nothing is made outside.
    }
    let mut bundle = Bundle::new(by);
    fs::create_dir_all(bundle.host().join("volume")).unwrap();
    bundle.mount("/v", "bind", "volume", &["bind", "idmap"]);
    let mapping = serde_json::json!([{ "containerID": 0, "hostID": 4000, "size": 10 }]);
    let mount = bundle.config["mounts"].as_array_mut().unwrap().last_mut().unwrap();
    mount["uidMappings"] = mapping.clone();
    mount["gidMappings"] = mapping;
    bundle.config["annotations"] = serde_json::json!({ "shared-host": "" });
    let out = bundle.run("cat /proc/self/mountinfo");
    let line = mount_at(&out, "/v");
    assert!(!line.contains(" shared:"), "{line}");
}

fn cgroup(by: By) {
    let mut bundle = Bundle::new(by);
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]);
    let out = bundle.run("cat /proc/self/mountinfo");
    let all: Vec<&str> = out
        .lines()
        .filter(|line| line.split(' ').nth(4).is_some_and(|place| place.starts_with("/sys/fs/cgroup")))
        .collect();
    assert!(out.contains("WARNING: /sys/fs/cgroup") && !all.is_empty(), "{out}");
    assert!(all.iter().all(|line| options_of(line).contains(&"ro")), "{out}");
}
