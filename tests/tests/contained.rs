//! The supervision of containers, without a runtime: what is done for a container's root, what stays as it was made
//! whatever that root does, and what becomes of a container whose supervisor is hijacked or dead.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sentry_tests::{Outcome, Project, as_user, has_id_range, outcome, site, skip};

/// A container in which a shell runs `script`.
fn command(project: &Project, options: &[&str], script: &str) -> Command {
    let mut command = as_user(&site().contained);
    command.arg("--directory").arg(project.path()).args(options).args(["/bin/bash", "-c", script]);
    command
}

fn run(project: &Project, options: &[&str], script: &str) -> Outcome {
    outcome(command(project, options, script))
}

/// Runs each attempt and says which of them were lucky.
fn lucky(options: &[&str], attempts: &[(&str, &str)]) -> Vec<String> {
    let project = Project::new();
    let each = |(name, attempt): &(&str, &str)| format!("( {attempt} ) >/dev/null 2>&1 && echo {name}\n");
    let run = run(&project, options, &(attempts.iter().map(each).collect::<String>() + "true"));
    assert_eq!(run.code, 0, "{run:?}");
    run.out.lines().map(str::to_owned).collect()
}

fn log(project: &Project) -> Vec<serde_json::Value> {
    let text = project.read("audit.jsonl");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

#[test]
fn root_mounts_and_makes_devices() {
    let done = [
        ("tmpfs", "mount -t tmpfs -o size=1m x /mnt && touch /mnt/file && stat -f -c %T /mnt | grep tmpfs"),
        ("unmount", "! test -e /mnt/y && umount /mnt && ! umount /mnt"),
        ("bind", "mkdir /tmp/a && mount --bind /usr /tmp/a && test -d /tmp/a/bin && umount /tmp/a"),
        ("proc", "mount -t proc p /mnt && test -d /mnt/1 && umount /mnt"),
        ("devpts", "mount -t devpts d /mnt && test -c /mnt/ptmx && umount /mnt"),
        (
            "overlay",
            "mkdir /tmp/u /tmp/w && mount -t overlay o -o lowerdir=/etc,upperdir=/tmp/u,workdir=/tmp/w /mnt && touch /mnt/new && test -e /tmp/u/new && umount /mnt",
        ),
        ("null", "mknod /tmp/null c 1 3 && echo x > /tmp/null && test -c /tmp/null && ! test -s /tmp/null"),
        ("zero", "mknod /tmp/zero c 1 5 && head -c 3 /tmp/zero | od -An -tx1 | grep '00 00 00'"),
        ("no device", "umount /tmp/null && rm /tmp/null"),
        ("fifo", "mknod /tmp/fifo p && test -p /tmp/fifo"),
        ("set-id", "touch /tmp/s && chmod 4755 /tmp/s && test -u /tmp/s"),
        ("name", "hostname other && test $(hostname) = other"),
        (
            "chroot",
            "mount --bind / /mnt && chroot /mnt /bin/sh -c 'mount -t tmpfs x /var && echo y > /var/y' && test -e /mnt/var/y && ! test -e /var/y",
        ),
    ];
    let names: Vec<String> = done.iter().map(|(name, _)| (*name).to_owned()).collect();
    let printed = lucky(&[], &done);
    assert_eq!(names.iter().filter(|name| !printed.contains(name)).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn what_the_runtime_mounted_stays() {
    let attacks = [
        ("uncover", "umount /proc/timer_list"),
        ("uncover-lazily", "umount -l /proc/timer_list"),
        ("uncover-proc", "umount -l /proc"),
        ("move", "mkdir /tmp/m && mount --move /proc /tmp/m"),
        ("move-cover", "mount --move /proc/timer_list /tmp/f"),
        ("beneath", "mkdir /tmp/b && mount --bind /proc /tmp/b && test -s /tmp/b/timer_list"),
        ("beneath-all", "mkdir /tmp/c && mount --rbind / /tmp/c && umount /tmp/c/proc/timer_list"),
        ("unbindable", "mount --make-unbindable /proc/timer_list"),
        ("beneath-again", "mkdir /tmp/d && mount --rbind /proc /tmp/d && test -s /tmp/d/timer_list"),
        ("new-proc", "mkdir /tmp/e && mount -t proc proc /tmp/e && test -s /tmp/e/timer_list"),
        // Identifiers of mounts that went are given again: to the covers that come along.
        (
            "identifiers",
            "mkdir /tmp/j /tmp/k && mount -t tmpfs t /tmp/j && for i in $(seq 40); do touch /tmp/j/$i; mount --bind /dev/null /tmp/j/$i; done; \
             umount -l /tmp/j; sleep 0.2; mount -t proc p /tmp/k && umount /tmp/k/timer_list",
        ),
        ("layers", "mount -t overlay o -o lowerdir=/proc:/etc /mnt && test -s /mnt/timer_list"),
        ("layers-above", "mkdir /tmp/g && mount -t overlay o -o lowerdir=/:/etc /tmp/g"),
        ("write", "mount -o remount,bind,rw /usr && touch /usr/x"),
        ("write-copy", "mkdir /tmp/h && mount --bind /ro /tmp/h && mount -o remount,bind,rw /tmp/h && touch /tmp/h/x"),
        (
            "write-copy-of-copy",
            "mkdir /tmp/i && mount --bind /tmp/h /tmp/i && mount -o remount,bind,rw /tmp/i && touch /tmp/i/x",
        ),
        ("shared", "mount --make-shared /"),
        ("shared-all", "mount --make-rshared /"),
        ("by-descriptor", "exec 7</proc/timer_list; umount -i /proc/self/fd/7"),
        ("by-link", "ln -s /proc/timer_list /tmp/l; umount /tmp/l"),
        ("root", "umount -l /"),
        ("disk", "mknod /tmp/disk b 8 0"),
        ("memory", "mknod /tmp/mem c 1 1"),
        ("ext4", "mount -t ext4 /dev/null /mnt"),
        ("clock", "date -s 2001-01-01"),
        ("namespace", "unshare -m true"),
        ("user namespace", "unshare -U true"),
        ("enter", "nsenter -t 1 -m true"),
        ("pivot", "pivot_root / /mnt"),
    ];
    let reached = lucky(&[], &attacks);
    assert_eq!(reached, Vec::<String>::new());
    // The same container could do what is not an attack.
    assert_eq!(lucky(&[], &[("tmpfs", "mount -t tmpfs x /mnt")]), ["tmpfs"]);
}

#[test]
fn a_policy_that_does_nothing_refuses_and_tells() {
    let project = Project::new();
    let script = "mount -t tmpfs x /mnt; mount --bind /usr /mnt; umount /proc; mknod /tmp/null c 1 3; true";
    let run = run(&project, &["--annotation", "dev.sentry.policy=plain"], script).exits(0);
    let told: Vec<String> = log(&project)
        .iter()
        .filter_map(|line| {
            Some(format!("{} {} {}", line["verdict"].as_str()?, line["syscall"].as_str()?, line["what"].as_str()?))
        })
        .collect();
    let expected = [
        "refused mount tmpfs on /mnt",
        "refused mount /usr on /mnt",
        "refused umount2 /proc",
        "refused mknodat character device 1:3 at /tmp/null",
    ];
    assert_eq!(told, expected, "{run:?}");
    let first = &log(&project)[0];
    assert_eq!(
        (&first["container"], &first["name"], &first["comm"]),
        (&"small".into(), &"the small one".into(), &"mount".into())
    );
    assert!(first["pid"].as_i64().is_some_and(|pid| (2..20).contains(&pid)), "the container's own number: {first}");
}

#[test]
fn the_users_own_file_counts_in_an_engines_user_namespace() {
    let project = Project::new();
    project.write("sentry/containers.toml", "[policy.mine]\nextends = \"plain\"\n");
    for maps in [&["--map-root-user"][..], &["--map-current-user"]] {
        let mut command = as_user("unshare");
        command.args(maps).arg(&site().sentry).args(["policy", "show", "mine"]).env("XDG_CONFIG_HOME", project.path());
        let shown = outcome(command).exits(0);
        assert!(shown.out.starts_with("policy   mine\n"), "{maps:?}: {shown:?}");
    }
}

#[test]
fn attempts_to_undo_what_the_runtime_mounted_are_told() {
    let project = Project::new();
    let script = "umount /proc/timer_list; umount -l /proc; mkdir /tmp/m; mount --move /proc /tmp/m; mount -t overlay o -o lowerdir=/proc:/etc /mnt; true";
    run(&project, &[], script).exits(0);
    let told: Vec<String> = log(&project)
        .iter()
        .filter(|line| line["verdict"] == "refused")
        .map(|line| {
            format!("{} {}", line["syscall"].as_str().unwrap_or_default(), line["what"].as_str().unwrap_or_default())
        })
        .collect();
    let expected = ["umount2 /proc/timer_list", "umount2 /proc", "mount /proc on /tmp/m", "mount overlay on /mnt"];
    assert_eq!(told, expected);
}

#[test]
fn what_was_done_is_told_when_asked_for() {
    let project = Project::new();
    let options = ["--annotation", "dev.sentry.audit=all", "--annotation", "dev.sentry.clock=virtual"];
    let script = "mount -t tmpfs x /mnt && umount /mnt && mknod /tmp/null c 1 3 && date -s 2001-02-03T04:05:06";
    run(&project, &options, script).exits(0);
    let done: Vec<String> =
        log(&project).iter().filter(|line| line["verdict"] == "done").map(|line| line["what"].to_string()).collect();
    let expected =
        ["\"tmpfs on /mnt\"", "\"/mnt\"", "\"character device 1:3 at /tmp/null\"", "\"to 2001-02-03T04:05:06Z\""];
    assert_eq!(done, expected);
}

#[test]
fn a_container_has_a_clock_of_its_own() {
    let project = Project::new();
    let script = "date -s 2001-02-03T04:05:06 >/dev/null && date +%Y && python3 -c 'import time; print(time.gmtime().tm_year)' && bash -c 'echo $EPOCHSECONDS'";
    let run = run(&project, &["--annotation", "dev.sentry.clock=virtual"], script).exits(0);
    let lines: Vec<&str> = run.out.lines().collect();
    assert_eq!(lines[..2], ["2001", "2001"], "{run:?}");
    assert!(lines[2].starts_with("9811731"), "{run:?}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
    assert!(now > 1_700_000_000, "the host's clock");
}

#[test]
fn only_the_containers_root_has_things_done_for_it() {
    if !has_id_range() {
        skip!("the user has no range of ids");
    }
    let project = Project::new();
    let script = "mkdir -m 777 /tmp/x; as='setpriv --reuid=1000 --regid=1000 --clear-groups --bounding-set=-all --inh-caps=-all'; \
                  for try in 'mount -t tmpfs x /mnt' 'mknod /tmp/x/null c 1 3' 'umount /proc'; do $as $try && echo done: $try; done; \
                  setpriv --reuid=1000 --regid=1000 --clear-groups mknod /tmp/x/p p && stat -c %u /tmp/x/p; \
                  mount -t tmpfs x /mnt && echo root";
    let run = run(&project, &["--ids"], script).exits(0);
    assert_eq!(run.out, "1000\nroot\n", "{run:?}");
}

#[test]
fn a_container_is_told_of_its_own_memory_and_classes() {
    let project = Project::new();
    let script = "python3 -c 'import os; print(os.sysconf(\"SC_PHYS_PAGES\") * os.sysconf(\"SC_PAGE_SIZE\"))'; chrt -f 50 true || echo refused";
    assert_eq!(run(&project, &[], script).out, "67108864\nrefused\n");
}

/// Rule 1 of the architecture: what holds a hijacked supervisor's container is what would hold it without one, and the filter.
#[test]
fn a_supervisor_that_continues_everything_gives_nothing_of_the_host() {
    let attacks = [
        ("clock", "date -s 2001-01-01"),
        ("disk", "mknod /tmp/disk b 8 0"),
        ("null", "mknod /tmp/null c 1 3"),
        ("write", "mount -o remount,rw /usr && touch /usr/x"),
        ("ext4", "mount -t ext4 /dev/null /mnt"),
        ("keys", "python3 -c 'import ctypes; exit(ctypes.CDLL(None).syscall(250, 0, -3, 1, 0, 0) < 0)'"),
        ("module", "python3 -c 'import ctypes; exit(ctypes.CDLL(None).syscall(175, 0, 0, 0) != 0)'"),
        ("bpf", "python3 -c 'import ctypes; exit(ctypes.CDLL(None).syscall(321, 0, 0, 0) < 0)'"),
        ("ring", "python3 -c 'import ctypes; exit(ctypes.CDLL(None).syscall(425, 1, 0) < 0)'"),
        ("disk by image", "mount -t ext4 -o loop /bin/true /mnt"),
    ];
    let before = fs::metadata("/usr").expect("/usr").modified().expect("a time");
    assert_eq!(lucky(&["--continue"], &attacks), Vec::<String>::new());
    assert_eq!(fs::metadata("/usr").expect("/usr").modified().expect("a time"), before);
    // It does continue: the container's own capabilities mount in its own namespaces.
    assert_eq!(lucky(&["--continue"], &[("tmpfs", "mount -t tmpfs x /mnt")]), ["tmpfs"]);
}

/// A container that waits, its keeper, and the keeper's supervisor.
fn waiting(project: &Project) -> (Child, i32, i32) {
    let mut command = command(project, &["--pid"], "echo ready; sleep 60; echo never");
    let mut child = command.stdout(Stdio::piped()).spawn().expect("a container");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let mut next = || lines.next().expect("a line").expect("text");
    let keeper = next().parse().expect("a number");
    assert_eq!(next(), "ready");
    let children = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).expect("its children");
    (child, keeper, children.trim().parse().expect("one child"))
}

fn kill(pid: i32) {
    // SAFETY: no memory effects.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
}

#[track_caller]
fn ends_soon(mut child: Child) {
    let deadline = Instant::now() + Duration::from_secs(3);
    while child.try_wait().expect("waited").is_none() {
        assert!(Instant::now() < deadline, "the container goes on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_container_ends_with_its_supervisor() {
    let project = Project::new();
    let (child, keeper, supervisor) = waiting(&project);
    kill(supervisor);
    ends_soon(child);
    assert!(!fs::exists(format!("/proc/{keeper}")).expect("looked"), "the keeper is gone");
    assert!(!project.has("keeper.sock"));
    let notes: Vec<_> = log(&project).iter().map(|line| line["note"].clone()).collect();
    assert_eq!(notes, ["the supervisor ended unexpectedly, and the container with it"]);
}

#[test]
fn a_container_ends_with_its_keeper() {
    let project = Project::new();
    let (child, keeper, _) = waiting(&project);
    kill(keeper);
    ends_soon(child);
}

#[test]
fn nothing_is_left_of_a_container_that_ended() {
    let project = Project::new();
    let (child, keeper, supervisor) = waiting(&project);
    let own = fs::read_to_string(format!("/proc/{}/task/{0}/children", child.id())).expect("children");
    let init: i32 =
        own.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid| *pid != keeper).expect("init");
    kill(init);
    ends_soon(child);
    for pid in [keeper, supervisor] {
        assert!(!fs::exists(format!("/proc/{pid}")).expect("looked"), "{pid} is gone");
    }
    assert!(!project.has("keeper.sock"));
}
