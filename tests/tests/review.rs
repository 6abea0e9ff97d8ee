//! Copy-on-write to the end: what a run changed is found, shown, taken over or thrown away, and nothing is lost on the way.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sentry_tests::{Outcome, Project, Sandbox, as_user, has, is_root, outcome, site, skip};

/// A project and a place of its own for what runs keep.
struct Desk {
    project: Project,
    state: Project,
}

impl Desk {
    fn new() -> Self {
        Self { project: Project::new(), state: Project::new() }
    }

    fn start(&self, options: &[&str], script: &str) -> Command {
        let state = self.state.path().to_str().unwrap();
        let sandbox = Sandbox::new(&self.project).options(options).env("XDG_STATE_HOME", state);
        sandbox.command(["sh", "-c", script])
    }

    fn run(&self, options: &[&str], script: &str) -> Outcome {
        outcome(self.start(options, script))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = as_user(&site().sentry);
        command.args(arguments).current_dir(self.project.path()).env("XDG_STATE_HOME", self.state.path());
        command
    }

    fn verb(&self, arguments: &[&str]) -> Outcome {
        outcome(self.command(arguments))
    }

    fn host(&self, script: &str) -> String {
        let mut command = as_user("sh");
        command.args(["-euc", script]).current_dir(self.project.path());
        let done = outcome(command);
        assert_eq!(done.code, 0, "{script}: {done:?}");
        done.out
    }

    /// Names of kept runs, newest first.
    fn ids(&self) -> Vec<String> {
        let list: serde_json::Value = serde_json::from_str(&self.verb(&["ps", "--json"]).exits(0).out).unwrap();
        list.as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect()
    }

    fn kept(&self) -> PathBuf {
        let base = self.state.join("sentry/runs");
        fs::read_dir(base).unwrap().next().unwrap().unwrap().path()
    }

    fn is_empty(&self) -> bool {
        fs::read_dir(self.state.join("sentry/runs")).map_or(true, |mut runs| runs.next().is_none())
    }
}

/// A file system of this size, mounted as root for the ordinary user, gone at the end.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(desk: &Desk, place: &Path, size: &str) -> Self {
        fs::create_dir_all(place).unwrap();
        let owner = fs::metadata(desk.project.path()).unwrap();
        let options = format!("size={size},mode=755,uid={},gid={}", owner.uid(), owner.gid());
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "review"]).arg(place).status().unwrap();
        assert!(mounted.success());
        Self(place.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// All names beneath a directory with what matters about them.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut queue = vec![root.to_owned()];
    while let Some(directory) = queue.pop() {
        for entry in fs::read_dir(&directory).unwrap().flatten() {
            let (path, metadata) = (entry.path(), entry.metadata().unwrap());
            let mut about = format!("{:o} ", metadata.mode());
            if metadata.is_dir() {
                queue.push(path.clone());
            } else if metadata.is_symlink() {
                about += &fs::read_link(&path).unwrap().to_string_lossy();
            } else if metadata.is_file() {
                about += &String::from_utf8_lossy(&fs::read(&path).unwrap());
            }
            found.insert(path.strip_prefix(root).unwrap().to_owned(), about);
        }
    }
    found
}

#[test]
fn what_git_did_in_a_copy_is_a_sound_repository_after_the_commit() {
    if !has("git") {
        skip!("git is not installed");
    }
    let desk = Desk::new();
    let identity = "git config user.email a@b; git config user.name a; git config gc.auto 0";
    desk.host(&format!(
        "git init -q -b main .; {identity}; mkdir src; seq 1000 > src/a; seq 9 > b; git add .; git commit -qm one"
    ));
    desk.run(
        &[],
        "set -e; git checkout -qb work; git mv src lib; echo more >> b; rm -f nothing; git commit -qam two; seq 50 > c; \
         git add c; git commit -qm three; git gc -q --prune=now; git stash list; git tag done",
    )
    .exits(0)
    .says("sentry commit");
    assert_eq!(desk.host("git log --oneline | wc -l; git fsck --strict"), "1\n");
    let diff = desk.verb(&["diff"]).exits(0);
    assert!(diff.out.contains("deleted") && diff.out.contains("lib"), "{}", diff.out);
    desk.verb(&["commit"]).exits(0);
    assert_eq!(
        desk.host("git fsck --strict 2>&1; git status --porcelain; git log --oneline | wc -l; git describe --tags"),
        "3\ndone\n"
    );
    assert_eq!(desk.host("head -1 lib/a; tail -1 b; ls"), "1\nmore\nb\nc\nlib\n");
    assert!(desk.is_empty());
}

#[test]
fn a_lower_directory_can_be_moved_by_programs_that_copy_instead() {
    let desk = Desk::new();
    desk.host("mkdir -p d/e; echo x > d/e/f; chmod 750 d/e");
    desk.run(&[], "mv d moved && test -f moved/e/f").exits(0);
    desk.verb(&["commit"]).exits(0);
    assert_eq!(desk.host("ls; cat moved/e/f; stat -c %a moved/e"), "moved\nx\n750\n");
    if has("rsync") {
        desk.run(&[], "rsync -a --remove-source-files moved/ again/ && find moved -type d -delete").exits(0);
        desk.verb(&["commit"]).exits(0);
        assert_eq!(desk.host("ls; cat again/e/f"), "again\nx\n");
    } else {
        eprintln!("SKIPPED: review: rsync is not installed");
    }
}

#[test]
fn editors_write_beside_and_rename() {
    let desk = Desk::new();
    desk.project.write("text", "old\n");
    desk.host("chmod 640 text");
    desk.run(&[], "printf 'new\\n' > .text.swp && chmod 640 .text.swp && mv .text.swp text").exits(0).says("changed");
    let patch = desk.verb(&["diff", "-p"]).exits(0);
    assert!(patch.out.contains("-old\n+new\n") && patch.out.contains("--- a/text\n+++ b/text\n"), "{}", patch.out);
    assert!(desk.verb(&["diff", "--stat"]).out.contains("+1 -1"));
    desk.verb(&["commit"]).exits(0);
    assert_eq!((desk.project.read("text").as_str(), desk.host("stat -c %a text").as_str()), ("new\n", "640\n"));
}

#[test]
fn a_directory_that_was_made_anew_hides_nothing_and_brings_nothing_back() {
    let desk = Desk::new();
    desk.host("mkdir -p d/deep/er; echo 1 > d/old; echo 2 > d/kept; echo 3 > d/deep/er/x; echo 4 > d/deep/y");
    desk.run(&[], "rm -rf d && mkdir d && echo new > d/kept && mkdir d/deep && echo 5 > d/deep/z && mkdir d/empty")
        .exits(0);
    let diff = desk.verb(&["diff"]).exits(0);
    for expected in ["deleted  ", "d/old", "d/deep/er/ with 1 more", "d/deep/y", "new      ", "d/empty/", "changed  "] {
        assert!(diff.out.contains(expected), "{expected}: {}", diff.out);
    }
    // First a part of it: what is done must not look deleted afterwards.
    desk.verb(&["commit", "d/deep/z"]).exits(0);
    assert_eq!(desk.host("cat d/deep/z d/old"), "5\n1\n");
    desk.verb(&["commit"]).exits(0);
    assert_eq!(desk.host("find d | sort; cat d/kept d/deep/z"), "d\nd/deep\nd/deep/z\nd/empty\nd/kept\nnew\n5\n");
    assert!(desk.is_empty());
}

#[test]
fn everything_about_files_is_taken_over() {
    if !has("python3") {
        skip!("python3 is not installed");
    }
    let desk = Desk::new();
    desk.host(
        "mkdir dir; echo x > mode; echo y > becomes-dir; mkdir becomes-file; echo z > becomes-file/in; ln -s a link",
    );
    let script = "set -e; umask 022
        chmod 700 dir; chmod 755 mode; rm becomes-dir; mkdir -m 751 becomes-dir; echo in > becomes-dir/in
        rm -r becomes-file; echo file > becomes-file; ln -sfn b link; mkfifo -m 620 pipe; mkdir -m 2755 empty 2>/dev/null || mkdir empty
        truncate -s 64M sparse; echo end >> sparse; echo linked > one; ln one two; mkdir sub; ln one sub/three; ln mode mode2
        echo t > times; touch -d '2001-02-03 04:05:06.123456789' times; mkdir -m 555 closed; chmod 755 closed; echo c > closed/c; chmod 555 closed
        echo secret > none; chmod 0 none
        python3 -c 'import os; os.setxattr(\"times\", \"user.colour\", b\"blue\"); os.setxattr(\"dir\", \"user.d\", b\"1\")'";
    desk.run(&[], script).exits(0);
    let diff = desk.verb(&["diff"]).exits(0);
    for expected in [
        "file to directory",
        "directory to file",
        "(-> b)",
        "fifo",
        "mode 755 to 700",
        "mode 644 to 755",
        "becomes-file/in",
    ] {
        assert!(diff.out.contains(expected), "{expected}: {}", diff.out);
    }
    desk.verb(&["commit"]).exits(0);
    let stat = desk.host(
        "stat -c '%n %a %F %h' dir mode mode2 becomes-dir becomes-file pipe empty closed closed/c one sub/three none",
    );
    let expected = "dir 700 directory 2\nmode 755 regular file 2\nmode2 755 regular file 2\nbecomes-dir 751 directory 2\n\
                    becomes-file 644 regular file 1\npipe 620 fifo 1\nempty 755 directory 2\nclosed 555 directory 2\n\
                    closed/c 644 regular file 1\none 644 regular file 3\nsub/three 644 regular file 3\nnone 0 regular file 1\n";
    assert_eq!(stat, expected);
    assert_eq!(
        desk.host("stat -c %i one two sub/three | sort -u | wc -l; cat sub/three; readlink link"),
        "1\nlinked\nb\n"
    );
    let sparse = fs::metadata(desk.project.join("sparse")).unwrap();
    assert!(sparse.len() > 64 << 20 && sparse.blocks() * 512 < 1 << 20, "{}", sparse.blocks());
    assert_eq!(desk.host("stat -c %y times").get(..29).unwrap(), "2001-02-03 04:05:06.123456789");
    let attributes = "import os; print(os.listxattr(\"times\"), os.getxattr(\"times\", \"user.colour\"), os.listxattr(\"dir\"), os.listxattr(\"one\"))";
    assert_eq!(desk.host(&format!("python3 -c '{attributes}'")), "['user.colour'] b'blue' ['user.d'] []\n");
    assert!(desk.is_empty(), "{}", desk.verb(&["diff"]).out);
    desk.host("chmod 755 closed");
}

#[test]
fn what_changed_on_the_host_meanwhile_is_left_alone() {
    let desk = Desk::new();
    desk.host("mkdir gone there; echo 1 > gone/a; echo 1 > both; echo 1 > mine; echo 1 > deleted; echo 1 > lost; echo 1 > there/x");
    desk.run(&[], "rm -r gone; echo 2 >> both; echo 2 >> mine; rm deleted; echo 2 > appeared; echo 2 >> lost; echo 2 >> there/x; echo 2 > same").exits(0);
    desk.host("sleep 0.05; echo 3 > gone/new; echo 3 >> both; echo 3 >> deleted; echo 3 > appeared; rm -r there; echo 2 > same");
    let before = tree(desk.project.path());
    let plan = desk.verb(&["commit", "--dry-run"]).exits(1);
    assert!(plan.out.contains("nothing was done"), "{}", plan.out);
    assert_eq!(tree(desk.project.path()), before);

    let commit = desk.verb(&["commit"]).exits(1);
    for (name, reason) in [
        ("gone", "new changed or appeared on the host"),
        ("both", "it changed on the host"),
        ("deleted", "it changed on the host"),
        ("appeared", "it changed on the host"),
        ("there", "it was deleted on the host"),
    ] {
        let line = commit.out.lines().find(|line| line.starts_with("left ") && line.contains(&format!("/{name}: ")));
        assert!(line.is_some_and(|line| line.contains(reason)), "{name}: {}", commit.out);
    }
    assert_eq!(desk.host("cat both mine deleted appeared gone/*"), "1\n3\n1\n2\n1\n3\n3\n1\n3\n");
    assert_eq!(desk.host("test ! -e there; cat lost"), "1\n2\n");
    assert!(commit.out.contains("sentry commit --force"), "{}", commit.out);

    desk.verb(&["commit", "--force"]).exits(0);
    assert_eq!(desk.host("cat both appeared there/x; ls"), "1\n2\n2\n1\n2\nappeared\nboth\nlost\nmine\nsame\nthere\n");
    assert!(desk.is_empty());
}

#[test]
fn a_commit_may_be_killed_at_any_moment() {
    let desk = Desk::new();
    desk.host("mkdir -p old/deep keep; for i in $(seq 30); do echo $i > old/f$i; echo $i > old/deep/f$i; echo $i > keep/f$i; ln keep/f$i keep/l$i; done");
    let script = "rm -rf old && mkdir old && rm keep/l*
        for i in $(seq 60); do seq $i > new$i; ln new$i link$i; done
        mkdir -p made/of/many; for i in $(seq 30); do echo $i > old/n$i; echo $i >> keep/f$i; head -c 200000 /dev/zero > made/of/many/f$i; done";
    desk.run(&[], script).exits(0);
    let mut kills = 0;
    for round in 0..400 {
        let log = fs::File::create(desk.state.join("said")).unwrap();
        let mut child = desk.command(&["commit"]).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(500 + round * 700));
        let ended = child.try_wait().unwrap();
        if let Some(status) = ended {
            let said = desk.state.read("said");
            assert!(
                status.success() || desk.is_empty(),
                "{status}: {}",
                said.lines()
                    .filter(|line| !line.starts_with("new ") && !line.starts_with("changed"))
                    .collect::<Vec<_>>()
                    .join("\n")
            );
            break;
        }
        // setpriv has become sentry by then.
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    eprintln!("{kills} commits were killed");
    assert!(kills > 5, "only {kills} commits were killed; the test is void");
    let last = desk.verb(&["commit"]);
    assert!(last.code == 0 || last.err.contains("no run has kept changes"), "{last:?}");
    assert_eq!(
        desk.host("ls -A | wc -l; ls old | wc -l; ls keep | wc -l; find . -name '.sentry-commit*' | wc -l"),
        "123\n30\n30\n0\n"
    );
    let check = "for i in $(seq 60); do seq $i | cmp - new$i; test $(stat -c %h link$i) = 2; test new$i -ef link$i; done
        for i in $(seq 30); do test \"$(cat keep/f$i | wc -l)\" = 2; test $(stat -c %s made/of/many/f$i) = 200000; done";
    desk.host(check);
    assert!(desk.is_empty());
}

#[test]
fn a_full_disk_ends_a_commit_and_loses_nothing() {
    if !is_root() {
        skip!("only root mounts a small file system");
    }
    let desk = Desk::new();
    let small = desk.project.join("small");
    let mounted = Mounted::tmpfs(&desk, &small, "4m");
    desk.host("head -c 1M /dev/zero > small/ballast; echo 1 > small/first");
    let script = "rm small/first; head -c 900k /dev/urandom > small/a; head -c 900k /dev/urandom > small/b; \
                  head -c 900k /dev/urandom > small/c; head -c 900k /dev/urandom > small/d; sha1sum small/?";
    let sums = desk.run(&["--cow", "small"], script).exits(0).out;
    let full = desk.verb(&["commit"]).exits(1);
    assert!(full.out.contains("No space left on device") && full.out.contains("make room there"), "{}", full.out);
    assert!(!small.join("first").exists() && small.join("a").exists() && small.join("ballast").exists());
    assert_eq!(desk.host("find small -name '.sentry*' | wc -l"), "0\n");
    desk.host("rm small/ballast");
    desk.verb(&["commit"]).exits(0);
    assert_eq!(desk.host("sha1sum small/?"), sums);
    assert!(desk.is_empty());
    drop(mounted);
}

#[test]
fn runs_are_told_apart_by_the_beginning_of_their_names() {
    let desk = Desk::new();
    assert!(desk.verb(&["ps"]).exits(0).out.contains("no changes are kept"));
    desk.verb(&["diff"]).exits(125).says("no run has kept changes");
    desk.run(&[], "echo 1 > one").exits(0);
    desk.run(&[], "echo 2 > two").exits(0);
    let ids = desk.ids();
    assert_eq!(ids.len(), 2);
    let newest = desk.verb(&["diff"]).exits(0);
    assert!(newest.out.starts_with(&format!("run {}", ids[0])) && newest.out.contains("/two"), "{}", newest.out);
    let common = ids[0].chars().zip(ids[1].chars()).take_while(|(one, other)| one == other).count();
    let shortest = &ids[1][..(common + 1).max(4)];
    assert!(desk.verb(&["diff", shortest]).exits(0).out.contains("/one"));
    if common >= 4 {
        desk.verb(&["diff", &ids[1][..common]]).exits(125).says(" or ");
    }
    desk.verb(&["diff", "zz"]).exits(125).says("sentry ps lists them");
    desk.verb(&["commit", shortest, "one"]).exits(0);
    assert!(desk.project.has("one") && !desk.project.has("two"));
    desk.verb(&["commit", "nothing-of-this"]).exits(125).says("changed nothing at");
    desk.verb(&["discard"]).exits(125);
    let listed = desk.verb(&["ps"]).exits(0).out;
    assert!(listed.contains("ended") && listed.contains("'echo 2 > two'"), "{listed}");
    desk.verb(&["discard", &ids[0]]).exits(0);
    assert!(desk.is_empty() && !desk.project.has("two"));
}

#[test]
fn running_sandboxes_are_listed_and_not_touched() {
    let desk = Desk::new();
    let mut running = desk.start(&[], "echo x > file; sleep 30").stdin(Stdio::piped()).spawn().unwrap();
    let list = || serde_json::from_str::<serde_json::Value>(&desk.verb(&["ps", "--json"]).out).unwrap();
    for _ in 0..100 {
        if list()[0]["state"] == "running" {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let id = list()[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(list()[0]["state"], "running");
    for verb in [vec!["discard", &id], vec!["commit", &id], vec!["diff", &id]] {
        desk.verb(&verb).exits(125).says("still running");
    }
    assert!(desk.verb(&["discard", "--all"]).exits(0).out.contains("0 runs"));
    std::thread::sleep(Duration::from_millis(300));
    running.kill().unwrap();
    running.wait().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(list()[0]["state"], "orphaned");
    assert!(desk.verb(&["diff"]).exits(0).out.contains("/file"));
    assert!(desk.verb(&["discard", "--all"]).exits(0).out.contains("1 run "));
    assert!(desk.is_empty());

    // A run that keeps nothing.
    let runtime = Project::new();
    let command = |mut command: Command| {
        command.env("XDG_RUNTIME_DIR", runtime.path());
        command
    };
    let mut running = command(desk.start(&["--read", "."], "sleep 30")).spawn().unwrap();
    let list = || outcome(command(desk.command(&["ps"]))).out;
    for _ in 0..100 {
        if list().contains("running") {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(list().contains("running") && list().contains("'sleep 30'"), "{}", list());
    running.kill().unwrap();
    running.wait().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(list().contains("no sandbox is running"), "{}", list());
}

#[test]
fn names_and_contents_cannot_fool_a_terminal() {
    let desk = Desk::new();
    desk.run(&[], "printf 'a\\033[2Jb\\tc\\n' > \"$(printf 'x\\ny\\033[31m')\"; ln -s \"$(printf '\\033c')\" link")
        .exits(0);
    for style in [&["diff"][..], &["diff", "-p"], &["diff", "--stat"], &["commit", "--dry-run"], &["ps"], &["commit"]] {
        let said = desk.verb(style).exits(0).out;
        assert!(!said.contains('\x1b'), "{style:?}: {said:?}");
        assert!(said.contains("x\\ny") || style == ["ps"], "{style:?}: {said:?}");
    }
    assert_eq!(fs::read(desk.project.join("x\ny\x1b[31m")).unwrap(), b"a\x1b[2Jb\tc\n");
}

#[test]
fn binaries_and_large_files_are_named_as_such() {
    let desk = Desk::new();
    desk.host("head -c 3000 /dev/zero > binary; seq 100 > text");
    desk.run(&[], "echo x >> binary; sed -i 50d text; head -c 5000000 /dev/zero | tr '\\0' a > large").exits(0);
    let patch = desk.verb(&["diff", "-p"]).exits(0).out;
    assert!(patch.contains("3000 to 3002 bytes") && patch.contains("0 to 5000000 bytes"), "{patch}");
    assert!(patch.contains("@@ -47,7 +47,6 @@") && patch.contains("\n-50\n"), "{patch}");
}

#[test]
fn set_id_bits_and_odd_marks_in_the_store_are_harmless() {
    if !has("python3") {
        skip!("python3 is not installed");
    }
    let desk = Desk::new();
    desk.host("mkdir d; echo 1 > d/a; echo 1 > d/b; echo 1 > victim");
    desk.run(&[], "echo x > program; chmod 755 program; echo 2 > d/c; mkdir sub").exits(0);
    let upper = desk.kept().join("0/upper");
    let plant = "import os, sys; os.chdir(sys.argv[1]); os.chmod('program', 0o6755); os.chmod('sub', 0o2755)
os.setxattr('d', 'user.overlay.opaque', b'x'); open('d/a', 'w').close(); os.setxattr('d/a', 'user.overlay.whiteout', b'y')
open('d/b', 'w').close(); os.symlink('/etc', 'way-out'); os.mkfifo('pipe'); os.mknod('sock', 0o140644)";
    let planted = as_user("python3").args(["-c", plant]).arg(&upper).status().unwrap();
    assert!(planted.success());
    let diff = desk.verb(&["diff"]).exits(0).out;
    assert!(diff.contains("set-id bits, which no commit takes over"), "{diff}");
    assert!(
        diff.contains("deleted  ") && diff.lines().any(|line| line.starts_with("deleted") && line.ends_with("d/a")),
        "{diff}"
    );
    let commit = desk.verb(&["commit"]).exits(0).out;
    assert!(commit.contains("left out") && commit.contains("socket"), "{commit}");
    assert_eq!(desk.host("stat -c %a program sub; cat d/b; ls d; readlink way-out"), "755\n755\nb\nc\n/etc\n");
    assert!(!desk.project.has("sock"));
}

#[test]
fn what_is_gone_on_both_sides_is_no_change() {
    let desk = Desk::new();
    desk.host("echo 1 > f; echo 1 > g");
    desk.run(&[], "rm f; echo 2 > h").exits(0);
    desk.host("rm f");
    let diff = desk.verb(&["diff"]).exits(0).out;
    assert!(!diff.contains("deleted"), "{diff}");
    desk.verb(&["commit"]).exits(0);
    assert_eq!(desk.host("ls"), "g\nh\n");
}

#[test]
fn a_link_put_in_the_way_leads_nowhere() {
    let (desk, outside) = (Desk::new(), Project::new());
    desk.host("mkdir d e; echo 1 > d/x; echo 1 > e/y");
    outside.write("x", "safe");
    outside.write("y", "safe");
    desk.run(&[], "echo 2 > d/x; rm e/y; echo 3 > d/z").exits(0);
    desk.host("rm -r d e");
    for name in ["d", "e"] {
        symlink(outside.path(), desk.project.join(name)).unwrap();
    }
    for options in [&["commit"][..], &["commit", "--force"]] {
        desk.verb(options);
        assert_eq!((outside.read("x").as_str(), outside.read("y").as_str()), ("safe", "safe"));
        assert!(!outside.has("z"));
    }
}

#[test]
fn a_directory_that_was_replaced_is_not_committed_to() {
    let desk = Desk::new();
    desk.host("mkdir d; echo 1 > d/x");
    desk.run(&["--cow", "d"], "echo 2 > d/x").exits(0);
    desk.host("mv d was; mkdir d; echo 3 > d/x");
    let commit = desk.verb(&["commit"]).exits(1);
    assert!(commit.out.contains("is not the directory that was copied"), "{commit:?}");
    assert_eq!(desk.project.read("d/x"), "3\n");
    desk.host("rm -r d; mv was d");
    desk.verb(&["commit"]).exits(0);
    assert_eq!(desk.project.read("d/x"), "2\n");
}

#[test]
fn a_symlink_means_its_directory_and_a_file_is_refused() {
    let desk = Desk::new();
    desk.host("mkdir real; echo 1 > real/x; ln -s real link; echo 1 > file");
    desk.run(&["--cow", "link"], "echo 2 > link/x; cat real/x").exits(0);
    desk.verb(&["commit"]).exits(0);
    assert_eq!(desk.host("cat real/x; readlink link"), "2\nreal\n");
    desk.run(&["--cow", "file"], "true").exits(125).says("only directories can be").says("--cow on its directory");
}

#[test]
fn what_the_guest_closed_can_be_reviewed_and_thrown_away() {
    let desk = Desk::new();
    desk.run(&[], "mkdir -p a/b; echo 1 > a/b/c; chmod 0 a/b/c a/b a").exits(0);
    assert!(desk.verb(&["diff"]).exits(0).out.contains("a/b/c"));
    desk.verb(&["commit"]).exits(0);
    assert_eq!(desk.host("stat -c %a a; chmod 700 a; stat -c %a a/b; chmod 700 a/b; stat -c %a a/b/c"), "0\n0\n0\n");
    assert!(desk.is_empty());
    desk.run(&[], "mkdir -p z/y; echo 1 > z/y/x; chmod 0 z/y z").exits(0);
    desk.verb(&["discard", "--all"]).exits(0);
    assert!(desk.is_empty());
}

#[test]
fn mounts_beneath_are_reviewed_together() {
    if !is_root() {
        skip!("only root mounts file systems beneath a directory");
    }
    let desk = Desk::new();
    desk.host("mkdir -p a/b plain; echo 1 > top; echo 1 > a/file; echo 1 > plain/p");
    let _mounted = Mounted::tmpfs(&desk, &desk.project.join("a/b/m"), "4m");
    desk.host("echo 1 > a/b/m/inner");
    let script =
        "set -e; echo 2 >> top; echo 2 >> a/file; echo 2 >> plain/p; echo 2 >> a/b/m/inner; echo n > a/new; rm plain/p";
    desk.run(&[], script).exits(0).says("a/b/m/inner").says("plain/p");
    assert_eq!(desk.host("cat top a/file plain/p a/b/m/inner"), "1\n1\n1\n1\n");
    desk.verb(&["commit"]).exits(0);
    assert_eq!(desk.host("cat top a/file a/b/m/inner a/new; ls plain"), "1\n2\n1\n2\n1\n2\nn\n");
    assert!(desk.is_empty());
}

#[test]
fn a_directory_of_somebody_else_is_copied() {
    if !is_root() {
        skip!("only root makes directories of others");
    }
    let desk = Desk::new();
    let foreign = desk.project.join("foreign");
    fs::create_dir_all(foreign.join("sub")).unwrap();
    fs::write(foreign.join("file"), "1\n").unwrap();
    fs::write(foreign.join("secret"), "1\n").unwrap();
    fs::set_permissions(foreign.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(foreign.join("sub/x"), "1\n").unwrap();
    fs::hard_link(foreign.join("file"), foreign.join("other")).unwrap();
    let run = desk
        .run(&["--cow", "foreign"], "cd foreign; echo 2 > file; rm -r sub; mkdir new; ls; test file -ef other")
        .exits(0);
    assert_eq!(run.out, "file\nnew\nother\n");
    let run = run.says("belongs to user id 0").says("1 names in").says("deleted");
    assert!(run.err.contains("foreign/sub/ with 1 more"), "{}", run.err);
    let refused = desk.verb(&["commit"]).exits(1);
    assert!(refused.out.contains("Permission denied; you may not write there"), "{}", refused.out);
    // Whoever gets the right to write there can finish it.
    let owner = fs::metadata(desk.project.path()).unwrap();
    let given = Command::new("chown").arg("-R").arg(format!("{}:{}", owner.uid(), owner.gid())).arg(&foreign).status();
    assert!(given.unwrap().success());
    let conflict = desk.verb(&["commit"]).exits(1);
    assert!(conflict.out.contains("changed on the host meanwhile"), "{}", conflict.out);
    desk.verb(&["commit", "--force"]).exits(0);
    assert_eq!(desk.host("cat foreign/file foreign/secret; ls foreign"), "2\n1\nfile\nnew\nother\nsecret\n");
}

#[test]
fn too_much_is_not_copied() {
    if !is_root() {
        skip!("only root makes directories of others");
    }
    let desk = Desk::new();
    let foreign = desk.project.join("foreign");
    fs::create_dir_all(&foreign).unwrap();
    fs::write(foreign.join("large"), vec![1u8; 3 << 20]).unwrap();
    desk.run(&["--cow", "foreign", "--disk", "2M"], "true")
        .exits(125)
        .says("larger than what is copied")
        .says("--read");
    assert!(desk.is_empty());
}

#[test]
fn the_store_may_lie_inside_what_is_copied() {
    let desk = Desk::new();
    desk.host("mkdir -p .state/other src; echo 1 > src/a; echo 1 > top; echo 1 > .state/other/o");
    let state = desk.project.join(".state");
    let sentry = |arguments: &[&str]| {
        let mut command = as_user(&site().sentry);
        command.args(arguments).env("XDG_STATE_HOME", &state).current_dir(desk.project.path());
        outcome(command)
    };
    let script = "echo 2 >> src/a; rm top; ls -A .state; echo 2 > .state/other/o";
    assert_eq!(sentry(&["run", "--", "sh", "-c", script]).exits(0).out, "other\n");
    sentry(&["commit"]).exits(0);
    assert_eq!(desk.host("cat src/a .state/other/o; ls"), "1\n2\n2\nsrc\n");
}

#[test]
fn a_store_that_cannot_hold_an_overlay_gets_copies() {
    if !is_root() {
        skip!("only root mounts a file system that cannot be an upper layer");
    }
    let desk = Desk::new();
    let base = Project::new();
    for name in ["lower", "upper", "work"] {
        fs::create_dir(base.join(name)).unwrap();
    }
    base.give(&base.join("upper"));
    let at = |name: &str| base.join(name).to_str().unwrap().to_owned();
    let options = format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("upper"), at("work"));
    let state = desk.state.path().to_owned();
    let mounted = Command::new("mount").args(["-t", "overlay", "-o", &options, "review"]).arg(&state).status().unwrap();
    assert!(mounted.success());
    let mounted = Mounted(state);
    desk.host("mkdir d; echo 1 > d/a; echo 1 > b; echo 1 > untouched; mkdir stays; echo 1 > stays/s");
    let script = "echo 2 >> d/a; rm b; mkdir -p n/m; echo 3 > n/m/x; ln -s x l; echo 1 > untouched; chmod 700 stays";
    desk.run(&[], script).exits(0).says("copied at the start").says("deleted").says("mode 755 to 700");
    let diff = desk.verb(&["diff"]).exits(0).out;
    assert!(diff.ends_with("1 deleted, 3 changed, 4 new\n"), "{diff}");
    desk.host("sleep 0.05; echo 9 > d/a");
    let commit = desk.verb(&["commit"]).exits(1);
    assert!(commit.out.contains("d/a: it changed on the host"), "{}", commit.out);
    desk.verb(&["commit", "--force"]).exits(0);
    assert_eq!(desk.host("cat d/a n/m/x; ls; stat -c %a stays"), "1\n2\n3\nd\nl\nn\nstays\nuntouched\n700\n");
    assert!(desk.is_empty());
    drop(mounted);
}

#[test]
fn directories_move_as_anywhere_else() {
    if !has("python3") {
        skip!("python3 is not installed");
    }
    let desk = Desk::new();
    desk.host("mkdir -p d/sub/deep full empty; echo 1 > d/f; echo 1 > d/sub/deep/g; ln d/f d/h; echo 1 > full/x; echo 1 > file; chmod 1751 d; chmod 500 d/sub");
    let script = r#"import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
def move(a, b, flags=0):
    if libc.renameat2(-100, a.encode(), -100, b.encode(), flags): return errno.errorcode[ctypes.get_errno()]
    return 'ok'
os.setxattr('d', 'user.k', b'v')
held = open('d/f')
print(move('d', 'full'), move('d', 'file'), move('d', 'd/sub/x'), move('d', 'empty', 1), move('d', '/tmp/d'), move('d', 'full', 2))
print(move('d', 'empty'), os.path.samestat(os.fstat(held.fileno()), os.stat('empty/f')), os.path.exists('d'))
print(oct(os.stat('empty').st_mode), oct(os.stat('empty/sub').st_mode), os.getxattr('empty', 'user.k'), sorted(os.listdir('empty')), sorted(os.listdir('.')))
print(move('full', 'new'), move('new', 'newer'), open('newer/x').read().strip())"#;
    let state = desk.state.path().to_str().unwrap();
    let run = outcome(Sandbox::new(&desk.project).env("XDG_STATE_HOME", state).command(["python3", "-c", script]));
    let run = run.exits(0);
    let lines: Vec<&str> = run.out.lines().collect();
    assert_eq!(lines[0], "ENOTEMPTY ENOTDIR EINVAL EEXIST EXDEV EXDEV");
    assert_eq!(lines[1], "ok True False");
    assert_eq!(lines[2], "0o41751 0o40500 b'v' ['f', 'h', 'sub'] ['empty', 'file', 'full']");
    assert_eq!(lines[3], "ok ok 1");
    desk.verb(&["commit"]).exits(0);
    assert_eq!(
        desk.host("find . | sort; cat empty/sub/deep/g; stat -c %a empty empty/sub").replace('\n', " "),
        "\
        . ./empty ./empty/f ./empty/h ./empty/sub ./empty/sub/deep ./empty/sub/deep/g ./file ./newer ./newer/x 1 1751 500 "
    );
    desk.host("chmod 700 empty/sub");
}

#[test]
fn the_whole_host_can_be_tried_on() {
    let desk = Desk::new();
    let home = site().home.to_str().unwrap().to_owned();
    let mark = format!("review-{}", std::process::id());
    let script = format!(
        "echo 1 > ~/{mark} && echo 1 > /home/{mark} && echo 1 > /usr/{mark} && echo 1 > ./{mark} && test -r /etc/passwd && ls -d /tmp/* 2>/dev/null | wc -l"
    );
    let run = desk.run(&["--cow", "/"], &script).exits(0);
    assert_eq!(run.out, "0\n");
    for path in [format!("{home}/{mark}"), format!("/home/{mark}"), format!("/usr/{mark}")] {
        assert!(!Path::new(&path).exists(), "{path}");
    }
    let diff = desk.verb(&["diff"]).exits(0).out;
    assert!(diff.ends_with("4 new\n"), "{diff}");
    let own = format!("{home}/{mark}");
    desk.verb(&["commit", &own, &format!("./{mark}")]).exits(0);
    assert!(Path::new(&own).exists() && desk.project.has(&mark));
    fs::remove_file(own).unwrap();
}

#[test]
fn what_cannot_be_looked_at_is_named_and_kept() {
    let desk = Desk::new();
    let deep = "for i in $(seq 25); do n=$(printf 'd%.0s' $(seq 200)); mkdir $n && cd $n || exit 0; done";
    desk.run(&[], &format!("echo 1 > easy; {deep}")).exits(0);
    for verb in [&["commit", "--dry-run"][..], &["commit"]] {
        let said = desk.verb(verb).exits(1).out;
        assert!(said.lines().any(|line| line.starts_with("left ") && line.contains("File name too long")), "{said}");
    }
    assert!(desk.project.has("easy"));
    let again = desk.verb(&["commit"]).exits(1).out;
    assert!(again.contains("the rest is kept") && !desk.is_empty(), "{again}");
    desk.verb(&["discard", "--all"]).exits(0);
    desk.host("rm -rf d*");
}

#[test]
fn another_directory_in_the_place_of_one_is_left_alone() {
    let desk = Desk::new();
    desk.host("mkdir -p else/proj else/sub a a.bak d/e; echo USER > else/proj/file; echo USER > else/proj/more; echo USER > else/sub/keep; touch else/sub/junk");
    desk.host("echo 1 > a/x; echo 1 > a/y; echo 1 > a.bak/x; echo 1 > a.bak/y; echo 1 > d/e/f");
    desk.run(&[], "mkdir proj; echo guest > proj/file; echo guest > a/x; rm a/y; rm -r d").exits(0);
    desk.host("sleep 0.05; mv else/proj proj; mv a a.old; mv a.bak a; mv else/sub d/sub; rm d/sub/junk");
    let before = tree(desk.project.path());
    let commit = desk.verb(&["commit"]).exits(1);
    for name in ["proj/file", "a/x", "a/y", "d"] {
        let left = commit.out.lines().any(|line| line.starts_with("left ") && line.contains(&format!("/{name}: ")));
        assert!(left, "{name}: {}", commit.out);
    }
    assert_eq!(tree(desk.project.path()), before, "{}", commit.out);
    desk.verb(&["commit", "--force", "./a"]).exits(0);
    assert_eq!(desk.host("cat a/x; ls a; cat proj/file d/sub/keep"), "guest\nx\nUSER\nUSER\n");
}

#[test]
fn what_commits_did_themselves_is_no_conflict() {
    let desk = Desk::new();
    desk.host("mkdir -p d/e f; echo 1 > d/e/a; echo 1 > d/b; echo 1 > f/c");
    desk.run(&[], "rm -r d; mkdir -p d/e new/er; for i in 1 2; do echo $i > d/e/n$i; echo $i > new/er/n$i; echo $i > f/n$i; done; chmod 750 f").exits(0);
    desk.verb(&["commit", "d/e/n1", "new/er/n1", "f/n1"]).exits(0);
    desk.host("sleep 0.05; echo mine > f/mine");
    desk.verb(&["commit"]).exits(0);
    assert_eq!(desk.host("ls d d/e new/er f"), "d:\ne\n\nd/e:\nn1\nn2\n\nf:\nc\nmine\nn1\nn2\n\nnew/er:\nn1\nn2\n");
    assert!(desk.is_empty());
}

#[test]
fn a_link_is_made_to_the_file_of_the_copy_only() {
    let desk = Desk::new();
    desk.run(&[], "echo guest > a; ln a b; ln a c").exits(0);
    desk.verb(&["commit", "./a"]).exits(0);
    desk.host("echo USER > a");
    desk.verb(&["commit"]).exits(0);
    assert_eq!(desk.host("cat a b c; test b -ef c; stat -c %h a"), "USER\nguest\nguest\n1\n");
}

#[test]
fn a_name_that_a_commit_took_away_hides_no_later_change() {
    let desk = Desk::new();
    desk.host("echo 1 > a; ln a b; echo OLD > old; touch -d 2001-01-01 old");
    desk.run(&[], "rm a; echo guest > b.new; mv b.new b").exits(0);
    desk.verb(&["commit", "./a"]).exits(0);
    desk.host("sleep 0.05; cp -p old b");
    let commit = desk.verb(&["commit"]).exits(1).out;
    assert!(commit.contains("/b: it changed on the host"), "{commit}");
    assert_eq!(desk.project.read("b"), "OLD\n");
}

#[test]
fn what_git_obeys_is_held_back_wherever_it_finds_it() {
    let desk = Desk::new();
    let repository =
        |at: &str| format!("mkdir -p {at}/objects {at}/refs {at}/hooks; echo ref: refs/heads/m > {at}/HEAD; ");
    let evil = |at: &str| format!("printf '[core]\\n\\tfsmonitor = evil\\n' > {at}/config; ");
    let plain = |at: &str| format!("printf '[core]\\n\\tbare = false\\n' > {at}/config; ");
    let (submodule, began) = (".git/modules/s", "began/config");
    desk.host(
        &[repository(".git"), plain(".git"), repository(submodule), plain(submodule), "mkdir docs".into()].concat(),
    );
    let script = [
        "set -e; mkdir -p e began; echo ../e > .git/commondir; echo x > .git/config.worktree; ".to_owned(),
        repository("docs/.git") + &evil("docs/.git"),
        repository("bare") + &evil("bare") + "echo x > bare/hooks/post-update; chmod 755 bare/hooks/post-update; ",
        evil(submodule)
            + &format!("echo x > {submodule}/hooks/post-checkout; chmod 755 {submodule}/hooks/post-checkout; "),
        repository("fine/.git")
            + &plain("fine/.git")
            + "echo x > fine/.git/hooks/a.sample; chmod 755 fine/.git/hooks/a.sample; ",
        evil("began") + "echo x > config; mkdir hooks; echo x > hooks/run; chmod 755 hooks/run",
    ];
    desk.run(&[], &script.concat()).exits(0);
    let held = [
        ".git/commondir",
        ".git/config.worktree",
        "docs/.git/config",
        "bare/config",
        "bare/hooks/post-update",
        ".git/modules/s/config",
        ".git/modules/s/hooks/post-checkout",
    ];
    let diff = desk.verb(&["diff"]).exits(0).out;
    let commit = desk.verb(&["commit"]).exits(1).out;
    for name in held {
        let full = desk.project.join(name).display().to_string();
        let line =
            diff.lines().find(|line| line.contains(&format!("{full} "))).unwrap_or_else(|| panic!("{name}: {diff}"));
        assert!(line.ends_with("(your tools obey it)"), "{line}");
        assert!(commit.contains(&format!("left     {full}: your own tools obey it")), "{name}: {commit}");
    }
    assert_eq!(diff.matches("your tools obey it").count(), held.len(), "{diff}");
    let there = "ls .git/commondir .git/config.worktree docs/.git/config bare/config bare/hooks .git/modules/s/hooks 2>/dev/null || \
                 grep -r evil .git docs bare || true";
    assert_eq!(desk.host(there).replace('\n', ""), ".git/modules/s/hooks:bare/hooks:");
    assert_eq!(desk.host("cat fine/.git/config config began/config | wc -l; ls fine/.git/hooks"), "5\na.sample\n");

    // What was harmless there becomes a repository only by a word of the user's.
    desk.run(&[], &repository("began")).exits(0);
    assert!(desk.verb(&["commit"]).exits(1).out.contains("began/HEAD: your own tools obey it"));
    assert!(desk.project.has(began) && !desk.project.has("began/HEAD"));
    desk.verb(&["commit", "began/HEAD"]).exits(0);
    assert!(desk.project.has("began/HEAD"));
}

/// Whoever may write to `x` in a later run would write to `.git/config`.
#[test]
fn what_tools_obey_gets_no_second_name() {
    let desk = Desk::new();
    desk.host(
        "mkdir -p .git bare; echo mine > .git/config; echo bare > bare/config; echo ref > bare/HEAD; echo 1 > gone",
    );
    desk.run(&[], "rm gone; ln .git/config x; ln .git/config y; ln bare/config z; echo 1 > a; ln a b").exits(0);
    desk.verb(&["commit"]).exits(0);
    let seen = desk.host("stat -c %h .git/config bare/config; cat x y z; test a -ef b && echo one");
    assert_eq!(seen, "1\n1\nmine\nmine\nbare\none\n");
}
