//! Files under `--fake-root`: owners, devices, set-id bits and capabilities that programs of root set and see again, by the
//! ordinary user, with what is really on disk.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::process::Command;

use sentry_tests::{Project, Sandbox, as_user, has, is_root, outcome, site, skip};

/// A run that may write the project.
fn root(project: &Project) -> Sandbox<'_> {
    Sandbox::new(project).options(["--fake-root", "--write", ".", "--quiet"])
}

/// Runs a script and returns what it wrote.
#[track_caller]
fn said(project: &Project, script: &str) -> String {
    root(project).sh(&format!("set -e\n{script}")).exits(0).out
}

const TREE: &str = "mkdir tree; cd tree; echo text > file; chown 1000:100 file; chmod 0400 file
    cp /bin/true su; chown 0:65534 su; chmod 6755 su; mknod null c 1 3; mknod sda b 8 0; chown 0:6 sda
    mkfifo fifo; chown 5:6 fifo; ln -s file link; chown -h 7:8 link
    mkdir -m 2775 dir; chown 0:50 dir; mkdir -m 1777 tmp; mkdir closed; chmod 0 closed; cd ..\n";
const LIST: &str = "stat -c '%n %A %a %u:%g %t:%T %F' * | sort";

#[test]
fn what_root_did_is_seen_in_this_run_and_the_next() {
    let project = Project::new();
    let first = said(&project, &format!("{TREE} cd tree; {LIST}"));
    let wanted = "closed d--------- 0 0:0 0:0 directory
dir drwxrwsr-x 2775 0:50 0:0 directory
fifo prw-r--r-- 644 5:6 0:0 fifo
file -r-------- 400 1000:100 0:0 regular file
link lrwxrwxrwx 777 7:8 0:0 symbolic link
null crw-r--r-- 644 0:0 1:3 character special file
sda brw-r--r-- 644 0:6 8:0 block special file
su -rwsr-sr-x 6755 0:65534 0:0 regular file
tmp drwxrwxrwt 1777 0:0 0:0 directory
";
    assert_eq!(first, wanted);
    // A FIFO and a link cannot bear an attribute, and are remembered for one run only.
    let forgotten = wanted.replace("5:6", "0:0").replace("7:8", "0:0");
    assert_eq!(said(&project, &format!("cd tree; {LIST}")), forgotten);

    for entry in fs::read_dir(project.join("tree")).unwrap() {
        let entry = entry.unwrap();
        let real = entry.metadata().unwrap();
        assert_eq!(real.mode() & 0o6000, 0, "{entry:?}");
        assert!(!real.file_type().is_char_device() && !real.file_type().is_block_device(), "{entry:?}");
        assert_eq!(real.uid(), project.path().metadata().unwrap().uid(), "{entry:?}");
    }
}

#[test]
fn archives_and_copies_keep_owners() {
    let project = Project::new();
    let script = format!(
        "{TREE} tar -cpf a.tar tree; mkdir x; tar -xpf a.tar -C x; cp -a tree copy
         for each in tree x/tree copy; do (cd $each; {LIST}; echo); done"
    );
    let out = said(&project, &script);
    let lists: Vec<&str> = out.trim_end().split("\n\n").collect();
    assert_eq!(lists.len(), 3, "{out}");
    assert!(lists[0].contains("1000:100") && lists.iter().all(|list| *list == lists[0].trim_end()), "{out}");
}

#[test]
fn install_gives_away_and_capabilities_are_kept() {
    let project = Project::new();
    let out = said(&project, "install -o nobody -g nogroup -m 4755 /bin/true t; stat -c '%A %U:%G' t; id -u");
    assert_eq!(out, "-rwsr-xr-x nobody:nogroup\n0\n");
    assert_eq!(project.join("t").metadata().unwrap().permissions().mode() & 0o7777, 0o755);
    if !has("setcap") {
        skip!("there is no setcap");
    }
    let out = said(&project, "setcap cap_net_raw+ep t; getcap t; chown 3 t; getcap t; echo end");
    assert_eq!(out, "t cap_net_raw=ep\nend\n");
}

#[test]
fn a_device_is_nothing_but_what_the_sandbox_has_itself() {
    let project = Project::new();
    let script = "mknod null c 1 3; echo gone > null; wc -c < null; mknod zero c 1 5; head -c 4 zero | wc -c
        mknod disk b 8 0; mknod mem c 1 1; for each in disk mem; do
          cat $each 2>/dev/null || echo no; (echo x > $each) 2>/dev/null || echo no; truncate -s 5 $each 2>/dev/null || echo no
        done; exec 3<disk || echo no";
    let outcome = root(&project).sh(script);
    assert_eq!(outcome.out.split_whitespace().collect::<Vec<_>>(), ["0", "4", "no", "no", "no", "no", "no", "no"]);
    assert_ne!(outcome.code, 0, "the last open fails too");
    for name in ["null", "zero", "disk", "mem"] {
        let real = project.join(name).metadata().unwrap();
        assert!(real.is_file() && real.len() == 0, "{name}");
    }
}

#[test]
fn another_user_owns_what_it_makes() {
    let project = Project::new();
    let program = "import os, socket
os.makedirs('open'); os.chmod('open', 0o3777); os.chown('open', 0, 50)
os.setgroups([34]); os.setgid(33); os.setuid(33)
for where in '', 'open/':
    os.close(os.open(where + 'file', os.O_CREAT | os.O_RDWR, 0o444)); os.mkdir(where + 'dir'); os.symlink('x', where + 'link')
    os.mkfifo(where + 'fifo'); s = socket.socket(socket.AF_UNIX); s.bind(where + 'socket')
    for name in 'file', 'dir', 'link', 'fifo', 'socket':
        one = os.lstat(where + name); print(where + name, oct(one.st_mode), one.st_uid, one.st_gid)
def fails(call, *arguments):
    try: call(*arguments); print('done')
    except OSError as error: print(error.errno)
os.chown('file', 33, 34); print(os.stat('file').st_gid)
fails(os.chown, 'file', 0, -1); fails(os.chown, 'open', 33, -1); fails(os.chmod, 'open', 0o700)
fails(os.mknod, 'dev', 0o20600, os.makedev(1, 3)); fails(os.setxattr, 'file', 'security.capability', bytes(20))
print(os.access('open', os.W_OK), os.access('/etc/passwd', os.W_OK), os.access('file', os.R_OK), os.access('file', os.W_OK))
";
    project.write("p.py", program);
    if !has("python3") {
        skip!("there is no python3");
    }
    let out = said(&project, "python3 p.py");
    let wanted = "file 0o100444 33 33
dir 0o40755 33 33
link 0o120777 33 33
fifo 0o10644 33 33
socket 0o140755 33 33
open/file 0o100444 33 50
open/dir 0o42755 33 50
open/link 0o120777 33 50
open/fifo 0o10644 33 50
open/socket 0o140755 33 50
34
1
1
1
1
22
True False True False
";
    assert_eq!(out, wanted);
}

#[test]
fn the_guest_does_not_see_how_it_is_done() {
    let project = Project::new();
    if !has("getfattr") {
        skip!("there is no getfattr");
    }
    let script = "touch f; chown 5 f; setfattr -n user.own -v mine f; getfattr -d -m - f
        setfattr -n user.sentry.owner -v '1 0 0 - - -' f || echo refused; setfattr -x user.sentry.owner f || echo refused
        getfattr -n user.sentry.owner f || echo none; setfattr -n trusted.x -v y f || echo refused; stat -c %u f";
    let out = said(&project, script);
    assert_eq!(out, "# file: f\nuser.own=\"mine\"\n\nrefused\nrefused\nnone\nrefused\n5\n");
}

#[test]
fn root_may_change_what_is_read_only_and_nobody_outside_is_fooled() {
    let project = Project::new();
    project.write("locked", "old");
    project.write("dir/file", "old");
    for (name, mode) in [("locked", 0o444), ("dir/file", 0o000), ("dir", 0o555)] {
        fs::set_permissions(project.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let script = "echo new > locked; cat dir/file; echo new > dir/file; touch dir/more; rm dir/more; mkdir dir/sub
        setfattr -n user.x -v y locked; stat -c '%a' locked dir/file dir";
    let out = said(&project, script);
    assert_eq!(out, "old444\n0\n555\n");
    assert_eq!(project.read("locked"), "new\n");
    assert_eq!(project.read("dir/file"), "new\n");
}

#[test]
fn rules_about_paths_hold_for_root() {
    let project = Project::new();
    for name in ["keep.key", "dir/keep.key"] {
        project.write(name, "old");
        fs::set_permissions(project.join(name), fs::Permissions::from_mode(0o000)).unwrap();
    }
    let script = "for each in keep.key dir/keep.key; do cat $each && echo read; chown 5 $each && echo given; chmod 600 $each && echo permitted
        echo x > $each && echo written; setfattr -n user.x -v y $each && echo attributed; rm $each && echo removed; done; stat -c '%a %u' keep.key";
    let outcome = root(&project).options(["--read", "**/*.key"]).sh(script);
    assert_eq!(outcome.out, "0 0\n", "{}", outcome.err);
    let real = project.join("keep.key").metadata().unwrap();
    assert_eq!((real.mode() & 0o777, real.len()), (0, 3));
}

#[test]
fn the_hosts_files_are_not_given_away() {
    let project = Project::new();
    let script = "chown 5 /usr/bin/env || echo refused; chmod 700 /usr/bin/env || echo refused
        cp -p /usr/bin/env env; stat -c %u env /usr/bin/env; test -w /usr/bin/env || echo read-only
        chown 5 /tmp; stat -c %u /tmp; chown 5 /dev/null; stat -c %u /dev/null; chown 5 /proc/self/status || echo no";
    let outcome = root(&project).sh(script).exits(0);
    assert!(outcome.out.starts_with("refused\nrefused\n0\n0\nread-only\n5\n"), "{}", outcome.out);
    assert!(outcome.err.contains("Read-only file system"), "{}", outcome.err);
}

#[test]
fn copies_keep_what_is_pretended_and_a_diff_says_it() {
    let (project, state) = (Project::new(), Project::new());
    project.write("below", "text");
    project.write("dir/file", "text");
    let sandbox = |script: &str| {
        let mut command = Sandbox::new(&project).options(["--fake-root", "--quiet"]).command(["sh", "-c", script]);
        command.env("XDG_STATE_HOME", state.path());
        outcome(command).exits(0).out
    };
    let out = sandbox(
        "chown 33:34 below; chmod 4755 below; chown 5 dir; mv dir moved; mknod null c 1 3; mkfifo p; chown 6 p
         stat -c '%n %a %u:%g' below moved null p; echo gone > null",
    );
    assert_eq!(out, "below 4755 33:34\nmoved 755 5:0\nnull 644 0:0\np 644 6:0\n");

    let verb = |arguments: &[&str]| {
        let mut command = as_user(&site().sentry);
        command.args(arguments).current_dir(project.path()).env("XDG_STATE_HOME", state.path());
        outcome(command)
    };
    let diff = verb(&["diff"]).exits(0).out;
    for words in [
        "below  (mode 644 to 755, pretended owner 33:34 mode 4755)",
        "moved/  (pretended owner 5:0)",
        "null  (pretended owner 0:0 character device 1:3)",
    ] {
        assert!(diff.contains(words), "{words:?} is not in: {diff}");
    }
    verb(&["commit"]).exits(0);
    assert_eq!(project.join("below").metadata().unwrap().mode() & 0o7777, 0o755);
    assert!(project.join("null").metadata().unwrap().is_file());
    let out = sandbox("stat -c '%n %a %u:%g' below moved null");
    assert_eq!(out, "below 4755 33:34\nmoved 755 5:0\nnull 644 0:0\n", "a later run sees what was committed");
}

#[test]
fn memory_and_hostile_records_do_no_harm() {
    let project = Project::new();
    project.write("plain", "text");
    project.write("evil", "text");
    let set = |name: &str, value: &str| {
        let file = project.join(name);
        let done = as_user("setfattr").args(["-n", "user.sentry.owner", "-v", value]).arg(file).status();
        done.is_ok_and(|status| status.success())
    };
    if !set("plain", "1 4294967295 0 - - -") {
        skip!("there are no attributes here");
    }
    assert!(set("evil", "1 7 8 6777 c1:3 -"));
    let out =
        said(&project, "stat -c '%u:%g %a %F' plain evil; cat plain evil; cat evil > copy; ls copy; ./evil || echo no");
    assert!(out.starts_with("0:0 644 regular file\n7:8 6777 regular file\ntexttextcopy\n"), "{out}");
    let script = "cd /tmp; touch a; chown 5:6 a; chmod 2755 a; stat -c '%u:%g %a' a; i=0
        while [ $i -lt 300 ]; do ln -s x l$i; chown -h $i l$i; i=$((i+1)); done; stat -c %u l7 l299; rm -f l*; ln -s x l7; stat -c %u l7";
    assert_eq!(said(&project, script), "5:6 2755\n7\n299\n0\n");
}

#[test]
fn a_process_is_listed_as_whom_it_became() {
    let project = Project::new();
    if !has("python3") {
        skip!("there is no python3");
    }
    let program = "import os, time
ready, done = os.pipe(), os.pipe()
child = os.fork()
if not child:
    os.setgid(34); os.setuid(33); os.write(ready[1], b'x'); os.read(done[0], 1); os._exit(0)
os.read(ready[0], 1)
one, own, self = os.stat(f'/proc/{child}'), os.stat('/proc/self'), os.stat('/proc')
print(one.st_uid, one.st_gid, own.st_uid, self.st_uid)
os.write(done[1], b'x'); os.waitpid(child, 0)
";
    project.write("p.py", program);
    assert_eq!(said(&project, "python3 p.py"), "33 34 0 0\n");
}

/// Owners and permissions after random changes are those that real root sees after the same.
#[test]
fn a_thousand_changes_are_told_as_by_the_kernel() {
    if !is_root() || !has("python3") {
        skip!("there is no real root here to compare with, or no python3");
    }
    for seed in ["1", "2", "3"] {
        let (project, real) = (Project::new(), Project::new());
        let program = project.write("owners.py", include_str!("../src/owners.py"));
        let mut natively = Command::new("python3");
        natively.arg(&program).args(["400", seed]).current_dir(real.path()).env_clear().env("PATH", "/usr/bin:/bin");
        let natively = outcome(natively).exits(0).out;
        let pretended = said(&project, &format!("mkdir tree; cd tree; python3 ../owners.py 400 {seed}"));
        let differ = natively.lines().zip(pretended.lines()).position(|(one, other)| one != other);
        if let Some(line) = differ {
            let before = natively.lines().skip(line.saturating_sub(12)).take(12).collect::<Vec<_>>().join("\n");
            panic!(
                "seed {seed}, line {line}:\n{before}\nnatively {:?}, pretended {:?}",
                natively.lines().nth(line),
                pretended.lines().nth(line)
            );
        }
        assert_eq!(natively.lines().count(), pretended.lines().count(), "seed {seed}");
    }
}

/// The whole of a tree of the user's own, in the command of the manual.
#[test]
fn a_tree_of_ones_own_is_changed_as_root_would() {
    let project = Project::new();
    for directory in ["usr/bin", "proc", "dev", "tmp", "var/tmp", "etc"] {
        fs::create_dir_all(project.join("tree").join(directory)).unwrap();
    }
    let bind = ["usr", "usr/bin", "proc", "dev", "tmp", "var", "var/tmp", "etc", ""];
    bind.iter().for_each(|directory| project.give(&project.join("tree").join(directory)));
    fs::copy(&site().probe, project.join("tree/usr/bin/probe")).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = as_user(&site().sentry);
        command.args(["run", "--quiet", "--fake-root", "--root", "tree"]).args(arguments).current_dir(project.path());
        outcome(command)
    };
    let read_only = run(&["--", "/usr/bin/probe", "write", "/etc/new"]);
    assert!(!project.has("tree/etc/new"), "{read_only:?}");
    let written = run(&["--write", "/", "--", "/usr/bin/probe", "write", "/etc/new"]);
    assert!(project.has("tree/etc/new"), "{written:?}");
    std::os::unix::fs::symlink("/", project.join("host")).unwrap();
    let mut command = as_user(&site().sentry);
    command.args(["run", "--root", "host", "--write", "/", "--", "true"]).current_dir(project.path());
    outcome(command).exits(125).says("the host's own root");
}
