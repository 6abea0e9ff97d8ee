//! The container runtime by its own commands: a container's life, as the ordinary user with one id and with a range, and
//! as root. What engines make of it is in `oci_podman.rs`, what the specification asks in `oci_conformance.rs`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sentry_tests::{Outcome, Project, as_user, has_id_range, is_root, outcome, site, skip};
use serde_json::{Value, json};

/// A bundle, and who runs it.
struct Bundle {
    project: Project,
    as_root: bool,
}

impl Bundle {
    /// With a busybox, and the configuration that `spec` writes, changed by `change`. `None` if there is no busybox.
    fn new(as_root: bool, change: impl Fn(&mut Value)) -> Option<Self> {
        let bundle = Self { project: Project::new(), as_root };
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(fs::read).into_iter().find_map(Result::ok)?;
        let program = bundle.project.write("rootfs/bin/busybox", busybox);
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a program");
        for name in ["sh", "id", "sleep", "cat", "ls", "pwd", "readlink", "kill"] {
            symlink("busybox", program.with_file_name(name)).expect("a link");
        }
        for directory in ["proc", "sys", "dev", "tmp", "etc"] {
            bundle.project.write(&format!("rootfs/{directory}/.keep"), "");
        }
        let rootless: &[&str] = if as_root { &[] } else { &["--rootless"] };
        let path = bundle.project.path().to_owned();
        bundle
            .run(&["spec", "--bundle"], |command| {
                command.arg(&path).args(rootless);
            })
            .exits(0);
        let mut config: Value = serde_json::from_str(&bundle.project.read("config.json")).expect("JSON");
        config["process"]["terminal"] = false.into();
        // As root the mounts of the specification's example are tried elsewhere; a host may have no mqueue.
        config["mounts"].as_array_mut().expect("mounts").retain(|mount| mount["type"] != "mqueue");
        change(&mut config);
        bundle.project.write("config.json", config.to_string());
        Some(bundle)
    }

    fn command(&self) -> Command {
        let mut command = if self.as_root { Command::new(&site().sentry) } else { as_user(&site().sentry) };
        command.arg("oci").arg("--root").arg(self.project.join("state")).current_dir(self.project.path());
        command
    }

    fn run(&self, words: &[&str], more: impl Fn(&mut Command)) -> Outcome {
        let mut command = self.command();
        command.args(words);
        more(&mut command);
        outcome(command)
    }

    fn oci(&self, words: &[&str]) -> Outcome {
        self.run(words, |_| {})
    }

    /// The same for a command that leaves a container behind, which keeps the standard descriptors that it gets.
    #[track_caller]
    fn leaves(&self, words: &[&str], more: impl Fn(&mut Command)) {
        let mut command = self.command();
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        more(&mut command);
        assert!(command.status().expect("the runtime").success(), "{command:?}");
    }

    fn status(&self, id: &str) -> String {
        let state: Value = serde_json::from_str(&self.oci(&["state", id]).exits(0).out).expect("JSON");
        state["status"].as_str().expect("a status").to_owned()
    }

    /// Waits until the container is in this state.
    #[track_caller]
    fn until(&self, id: &str, status: &str) {
        let end = Instant::now() + Duration::from_secs(10);
        while self.status(id) != status {
            assert!(Instant::now() < end, "{id} is {}, not {status}", self.status(id));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        // A command that hangs on to the outcome would hide the failure.
        for id in fs::read_dir(self.project.join("state")).into_iter().flatten().flatten() {
            let _ = self.command().args(["delete", "--force"]).arg(id.file_name()).output();
        }
    }
}

fn says(config: &mut Value, script: &str) {
    config["process"]["args"] = json!(["sh", "-c", script]);
}

/// From `create` to `delete`, with everything that must be refused on the way.
fn lives(as_root: bool) {
    let Some(bundle) = Bundle::new(as_root, |config| says(config, "echo begun > /tmp/begun; exec sleep 60")) else {
        skip!("there is no busybox");
    };
    let pid_file = bundle.project.join("pid");
    // The root of the example is read-only, so that what is written goes to a tmpfs.
    let mut config: Value = serde_json::from_str(&bundle.project.read("config.json")).expect("JSON");
    config["mounts"]
        .as_array_mut()
        .expect("mounts")
        .push(json!({"destination": "/tmp", "type": "tmpfs", "source": "x"}));
    bundle.project.write("config.json", config.to_string());

    bundle.leaves(&["create", "one", "--pid-file"], |command| {
        command.arg(&pid_file);
    });
    assert_eq!(bundle.status("one"), "created");
    let pid: i32 = fs::read_to_string(&pid_file).expect("a pid file").parse().expect("a pid");
    let state: Value = serde_json::from_str(&bundle.oci(&["state", "one"]).out).expect("JSON");
    assert_eq!(state["pid"], pid);
    bundle.oci(&["create", "one"]).exits(1).says("exists already");
    bundle.oci(&["exec", "one", "id"]).exits(1).says("start it first");
    bundle.oci(&["delete", "one"]).exits(1).says("not stopped");

    bundle.oci(&["start", "one"]).exits(0);
    assert_eq!(bundle.status("one"), "running");
    bundle.oci(&["start", "one"]).exits(1).says("not created");
    let end = Instant::now() + Duration::from_secs(10);
    while bundle.oci(&["exec", "one", "cat", "/tmp/begun"]).out != "begun\n" {
        assert!(Instant::now() < end, "the program does not begin");
    }
    bundle.oci(&["exec", "one", "sh", "-c", "exit 7"]).exits(7);
    bundle.oci(&["exec", "one", "no-such-program"]).exits(127).says("executable file not found in $PATH");
    let pids: Vec<i32> =
        serde_json::from_str(&bundle.oci(&["ps", "one", "--format", "json"]).exits(0).out).expect("JSON");
    assert!(pids.contains(&pid), "{pids:?}");
    assert!(bundle.oci(&["list", "-q"]).out.lines().any(|id| id == "one"));

    bundle.oci(&["kill", "one", "SIGKILL"]).exits(0);
    bundle.until("one", "stopped");
    bundle.oci(&["kill", "one", "15"]).exits(1).says("container not running");
    bundle.oci(&["exec", "one", "id"]).exits(1).says("container not running");
    bundle.oci(&["delete", "one"]).exits(0);
    bundle.oci(&["state", "one"]).exits(1).says("does not exist");
    bundle.oci(&["delete", "one", "--force"]).exits(0);
    assert_eq!(fs::read_dir(bundle.project.join("state")).expect("the state").count(), 0);
}

#[test]
fn a_container_lives_and_what_comes_at_the_wrong_time_is_refused() {
    lives(false);
}

#[test]
fn so_does_one_of_root() {
    if !is_root() {
        skip!("about root");
    }
    lives(true);
}

#[test]
fn a_container_has_the_ids_of_its_maps() {
    if !is_root() || !has_id_range() {
        skip!("the ordinary user has no range of ids");
    }
    let first = |file: &str| {
        let text = fs::read_to_string(file).expect("a range");
        let line = text.lines().find(|line| line.starts_with("sentry-test:")).expect("the user's");
        line.split(':').nth(1).and_then(|first| first.parse::<u32>().ok()).expect("a number")
    };
    let bundle = Bundle::new(false, |config| {
        let own = |kind: &str| config["linux"][kind][0].clone();
        let (users, groups) = (own("uidMappings"), own("gidMappings"));
        let more = |file| json!({"containerID": 1, "hostID": first(file), "size": 1000});
        config["linux"]["uidMappings"] = json!([users, more("/etc/subuid")]);
        config["linux"]["gidMappings"] = json!([groups, more("/etc/subgid")]);
        config["process"]["user"] = json!({"uid": 5, "gid": 6, "additionalGids": [7]});
        says(config, "id; cat /proc/self/uid_map");
    });
    let Some(bundle) = bundle else { skip!("there is no busybox") };
    let out = bundle.oci(&["run", "one"]).exits(0).out;
    assert!(out.starts_with("uid=5 gid=6 groups=7\n"), "{out}");
    assert_eq!(out.lines().count(), 3, "{out}");
}

#[test]
fn run_passes_on_how_the_program_ended_and_leaves_nothing() {
    let Some(bundle) = Bundle::new(false, |config| says(config, "cat; exit 9")) else { skip!("there is no busybox") };
    bundle.oci(&["run", "one"]).exits(9);
    assert_eq!(fs::read_dir(bundle.project.join("state")).expect("the state").count(), 0);
}

#[test]
fn hooks_run_in_their_order_and_a_failing_one_ends_the_container() {
    let hook = |name: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("echo {name} >> ORDER")]}]);
    let bundle = Bundle::new(false, |config| {
        config["hooks"] = json!({});
        for name in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
            config["hooks"][name] = hook(name);
        }
        says(config, "exit 0");
    });
    let Some(bundle) = bundle else { skip!("there is no busybox") };
    let order = bundle.project.join("order");
    let text = bundle.project.read("config.json").replace("ORDER", &order.display().to_string());
    bundle.project.write("config.json", &text);
    bundle.oci(&["run", "one"]).exits(0);
    assert_eq!(bundle.project.read("order"), "prestart\ncreateRuntime\ncreateContainer\npoststart\npoststop\n");

    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    config["hooks"]["createRuntime"] = json!([{"path": "/bin/false"}]);
    bundle.project.write("config.json", config.to_string());
    bundle.oci(&["run", "two"]).exits(1).says("createRuntime hook /bin/false ended with 1");
    bundle.oci(&["state", "two"]).exits(1).says("does not exist");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    config["hooks"]["startContainer"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]}]);
    bundle.project.write("config.json", config.to_string());
    bundle.oci(&["run", "three"]).exits(1).says("startContainer hook /bin/sh ended with 3");
}

#[test]
fn a_descriptor_is_passed_on_only_if_it_is_there() {
    let Some(bundle) = Bundle::new(false, |config| says(config, "cat <&3")) else { skip!("there is no busybox") };
    // Whoever started us may have left us some.
    bundle.oci(&["run", "one", "--preserve-fds", "500"]).exits(1).says("is not open");
    bundle.project.write("third", "through");
    let words =
        format!("exec \"$0\" oci --root {} run one --preserve-fds 1 3<third", bundle.project.join("state").display());
    let mut command = as_user("sh");
    command.args(["-c", &words]).arg(&site().sentry).current_dir(bundle.project.path());
    assert_eq!(outcome(command).exits(0).out, "through");
}

/// Nothing of the host is reachable through what a process holds that enters a container.
#[test]
fn cve_2024_21626_leaked_cwd() {
    let Some(bundle) = Bundle::new(false, |config| says(config, "exec sleep 60")) else { skip!("there is no busybox") };
    bundle.leaves(&["run", "--detach", "one"], |_| {});
    for number in 3..12 {
        let outside =
            bundle.oci(&["exec", "--cwd", &format!("/proc/self/fd/{number}"), "one", "cat", "../../../etc/passwd"]);
        assert_ne!(outside.code, 0, "{}", outside.out);
        assert!(!outside.out.contains("root:"), "{}", outside.out);
    }
    let held = bundle.oci(&["exec", "one", "ls", "/proc/self/fd"]).exits(0).out;
    // 3 is the directory that ls reads.
    assert_eq!(held.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}
