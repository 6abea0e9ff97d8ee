//! `sentry agent` with the runtimes that it is for: podman with crun and runc, and both runtimes alone.
//!
//! crun refuses the hybrid control groups of some hosts. Where it does and the tests run as root, it gets a mount namespace in which
//! only those of version 2 are mounted.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use sentry_tests::{Outcome, Project, as_user, has, is_root, outcome, site, skip};
use serde_json::{Value, json};

const RUNTIMES: [&str; 2] = ["crun", "runc"];
/// What runs in a container and may take its time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether control groups must be replaced for crun.
fn hides_groups() -> bool {
    static HIDES: OnceLock<bool> = OnceLock::new();
    *HIDES.get_or_init(|| is_root() && Path::new("/sys/fs/cgroup/unified").exists())
}

/// A command of the ordinary user that a runtime or an engine takes for its host.
fn on_host(program: &str) -> Command {
    let user = as_user(program);
    if !hides_groups() {
        return user;
    }
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", "mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"", "sh"]);
    command.arg(user.get_program()).args(user.get_args());
    command.env_clear().envs(user.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
    command
}

/// An agent, and what it supervises.
struct Site {
    project: Project,
    agent: Child,
    /// Lines of the agent's standard error are read by nobody after the first.
    _said: BufReader<std::process::ChildStderr>,
}

impl Site {
    /// Starts an agent whose owner's file says this.
    fn new(owner: &str) -> Self {
        let project = Project::new();
        let policies = project.write("containers.toml", owner);
        std::fs::set_permissions(&policies, std::fs::Permissions::from_mode(0o644)).unwrap();
        for directory in ["bin", "dev", "proc", "sys", "tmp", "etc", "mnt", "go"] {
            project.write(&format!("rootfs/{directory}/.keep"), "");
        }
        project.write("rootfs/etc/passwd", "root:x:0:0::/:/bin/sh\n");
        project.give(&project.join("rootfs"));
        let busybox = "/bin/busybox";
        std::fs::copy(busybox, project.join("rootfs/bin/busybox")).unwrap();
        let interrupted = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("interrupted");
        std::fs::copy(interrupted, project.join("rootfs/bin/interrupted")).expect("build the workspace first");
        for name in ["sh", "mount", "umount", "mknod", "cat", "date", "sleep", "ls", "grep", "id", "test", "timeout"] {
            std::os::unix::fs::symlink("busybox", project.join("rootfs/bin").join(name)).unwrap();
        }
        let mut command = as_user(&site().sentry);
        command.args(["agent", "--socket"]).arg(project.join("run/agent.sock"));
        command.arg("--policy-file").arg(policies).arg("--audit").arg(project.join("audit"));
        let mut agent = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(agent.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.contains("listens at"), "{line}");
        Self { project, agent, _said: said }
    }

    fn socket(&self) -> PathBuf {
        self.project.join("run/agent.sock")
    }

    /// Writes the profile of a policy, as a user would.
    fn profile(&self, policy: &str, more: &[&str]) -> PathBuf {
        let mut command = as_user(&site().sentry);
        command.args(["policy", "show", policy, "--as", "oci", "--listener"]).arg(self.socket()).args(more);
        command.arg("--policy-file").arg(self.project.join("containers.toml"));
        let written = outcome(command).exits(0);
        self.project.write(&format!("{policy}{}.json", more.concat()), written.out)
    }

    /// A podman whose store is the project's.
    fn podman(&self, runtime: &str) -> Command {
        let mut command = on_host("podman");
        for (option, place) in [("--root", "store/root"), ("--runroot", "store/run"), ("--tmpdir", "store/tmp")] {
            command.arg(option).arg(self.project.join(place));
        }
        command.args([
            "--cgroup-manager=cgroupfs",
            "--storage-driver=vfs",
            "--events-backend=file",
            "--runtime",
            runtime,
        ]);
        command.env("XDG_RUNTIME_DIR", self.project.path()).current_dir(self.project.path());
        command
    }

    /// `podman run` of a script.
    fn engine(&self, runtime: &str, name: &str, profile: &Path, script: &str) -> Outcome {
        let mut command = self.podman(runtime);
        command.args(["run", "--rm", "--network=none", "--name", name]);
        command.arg(format!("--security-opt=seccomp={}", profile.display()));
        // runc does not know how to do without, nor has to.
        if runtime == "crun" {
            command.arg("--cgroups=disabled");
        }
        command.arg("--rootfs").arg(self.project.join("rootfs")).args(["sh", "-c", script]);
        outcome(command)
    }

    /// The bundle of a container that a runtime is to run by itself.
    fn bundle(&self, id: &str, profile: &Path, script: &str) -> PathBuf {
        let seccomp: Value = serde_json::from_str(&std::fs::read_to_string(profile).unwrap()).unwrap();
        let ids: Vec<u32> = String::from_utf8(as_user("id").arg("-u").output().unwrap().stdout)
            .into_iter()
            .filter_map(|text| text.trim().parse().ok())
            .collect();
        let mapping = json!([{"containerID": 0, "hostID": ids[0], "size": 1}]);
        let capabilities = json!(["CAP_SYS_ADMIN", "CAP_MKNOD", "CAP_KILL"]);
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false, "user": {"uid": 0, "gid": 0}, "cwd": "/", "noNewPrivileges": true,
                "args": ["sh", "-c", script], "env": ["PATH=/bin"],
                "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            },
            "root": {"path": self.project.join("rootfs"), "readonly": false},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            ],
            "linux": {
                "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "user"}],
                "uidMappings": mapping, "gidMappings": mapping, "seccomp": seccomp,
            },
        });
        let file = self.project.write(&format!("bundles/{id}/config.json"), config.to_string());
        self.project.give(&self.project.join("bundles"));
        file.parent().unwrap().to_owned()
    }

    /// A runtime by itself.
    fn runtime(&self, runtime: &str) -> Command {
        let mut command = on_host(runtime);
        if runtime == "crun" {
            command.arg("--cgroup-manager=disabled");
        }
        command.arg("--root").arg(self.project.join("state"));
        command.env("XDG_RUNTIME_DIR", self.project.path()).current_dir(self.project.path());
        command
    }

    /// Starts a container without an engine.
    fn start(&self, runtime: &str, id: &str, profile: &Path, script: &str) -> Child {
        let bundle = self.bundle(id, profile, script);
        let mut command = self.runtime(runtime);
        command.arg("run").arg("--bundle").arg(bundle).arg(id);
        // A file of the user's own: runc gives its ends of pipes away, which an ordinary user may not.
        let out = std::fs::File::create(self.project.write(&format!("{id}.out"), "")).unwrap();
        command.stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap()
    }

    /// Waits for such a container, and returns what it wrote.
    fn finish(&self, id: &str, mut container: Child) -> String {
        let until = Instant::now() + PATIENCE;
        while container.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "{id} hangs: {}", self.project.read(&format!("{id}.out")));
            std::thread::sleep(Duration::from_millis(5));
        }
        self.project.read(&format!("{id}.out"))
    }

    /// What the log says so far.
    fn audit(&self) -> Vec<Value> {
        let text = self.project.read("audit");
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}"))).collect()
    }

    /// Waits for a line of the log.
    #[track_caller]
    fn logs(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.audit().into_iter().find(&is) {
                return line;
            }
            assert!(Instant::now() < until, "no line says {what}: {:#?}", self.audit());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[track_caller]
    fn refuses(&self, why: &str) -> Value {
        self.logs(why, |line| line["event"] == "refused" && line["why"].as_str().unwrap().contains(why))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

/// What a test needs of the host.
fn lacks(programs: &[&str]) -> Option<String> {
    let lacking: Vec<&str> = programs.iter().chain(&["busybox"]).filter(|name| !has(name)).copied().collect();
    (!lacking.is_empty()).then(|| format!("{} is not installed", lacking.join(", ")))
}

const MOUNTS: &str = "mount -t tmpfs x /mnt && grep -c ' /mnt ' /proc/mounts; rm -f /go/null; mknod /go/null c 1 3 && test -c /go/null \
                      && echo gone >/go/null && echo made; umount /go/null; rm -f /go/null; mount -t ext4 /dev/sda /mnt; date -s 2000-01-01";

/// What of [`MOUNTS`] is in a container's output.
#[track_caller]
fn works(out: &str) {
    // runc hands on what is said and what is complained about in no order.
    assert!(["1", "made"].iter().all(|said| out.lines().any(|line| line == *said)), "{out}");
}

#[test]
fn an_engines_containers_mount_and_make_devices_and_are_refused_by_name() {
    for runtime in RUNTIMES {
        if let Some(why) = lacks(&["podman", "conmon", runtime]) {
            skip!("{why}");
        }
        let site = Site::new("");
        let name = format!("my-{runtime}");
        works(&site.engine(runtime, &name, &site.profile("default", &[]), MOUNTS).out);
        for call in ["mount", "clock_settime"] {
            let refused = site.logs(call, |line| line["verdict"] == "refused" && line["syscall"] == call);
            assert_eq!(refused["name"], name.as_str(), "{refused}");
        }
        site.logs("the end", |line| line["event"] == "ended" && line["name"] == name.as_str());
    }
}

#[test]
fn who_enters_a_container_is_supervised_too() {
    for runtime in RUNTIMES {
        if let Some(why) = lacks(&["podman", "conmon", runtime]) {
            skip!("{why}");
        }
        let site = Site::new("");
        let mut run = site.podman(runtime);
        run.args(["run", "--detach", "--network=none", "--name=entered"]);
        run.arg(format!("--security-opt=seccomp={}", site.profile("default", &[]).display()));
        run.args((runtime == "crun").then_some("--cgroups=disabled"));
        outcome({
            run.arg("--rootfs").arg(site.project.join("rootfs")).args(["sleep", "60"]);
            run
        })
        .exits(0);
        let mut exec = site.podman(runtime);
        exec.args(["exec", "entered", "sh", "-c", MOUNTS]);
        works(&outcome(exec).out);
        site.logs("the name", |line| line["verdict"] == "refused" && line["name"] == "entered");
        let mut remove = site.podman(runtime);
        remove.args(["rm", "--force", "--time=0", "entered"]);
        outcome(remove).exits(0);
    }
}

#[test]
fn runtimes_without_an_engine_are_served() {
    for runtime in RUNTIMES {
        if let Some(why) = lacks(&[runtime]) {
            skip!("{why}");
        }
        let site = Site::new("");
        let container = site.start(runtime, "alone", &site.profile("default", &[]), MOUNTS);
        works(&site.finish("alone", container));
        site.logs("the id", |line| line["verdict"] == "refused" && line["container"] == "alone");
    }
}

#[test]
fn a_container_has_the_clock_that_its_policy_gives_it() {
    for runtime in RUNTIMES {
        if let Some(why) = lacks(&["podman", "conmon", runtime]) {
            skip!("{why}");
        }
        let site = Site::new("allow = [\"clocked\"]\n[policy.clocked]\nclock = \"virtual\"\n");
        let script = "date -s 2001-02-03 >/dev/null && date +%F";
        let run = site.engine(runtime, "clocked", &site.profile("clocked", &[]), script);
        assert_eq!(run.out.trim(), "2001-02-03", "{run:?}");
        assert!(!jump(), "the host's clock stays");
    }
}

/// Whether this host believes that it is 2001.
fn jump() -> bool {
    std::time::SystemTime::now() < std::time::UNIX_EPOCH + Duration::from_secs(1_500_000_000)
}

#[test]
fn twenty_containers_share_an_agent() {
    if let Some(why) = lacks(&["crun"]) {
        skip!("{why}");
    }
    let site = Site::new("");
    let profile = site.profile("default", &[]);
    let script = |number| format!("mount -t tmpfs size-{number} /mnt && grep ' /mnt ' /proc/mounts");
    let ids: Vec<String> = (0..20).map(|number| format!("many-{number}")).collect();
    let started: Vec<Child> =
        ids.iter().enumerate().map(|(number, id)| site.start("crun", id, &profile, &script(number))).collect();
    for (number, (id, container)) in ids.iter().zip(started).enumerate() {
        let out = site.finish(id, container);
        assert!(out.contains(&format!("size-{number} /mnt tmpfs")), "{id}: {out}");
    }
    for id in &ids {
        site.logs("the end of each", |line| line["event"] == "ended" && line["container"] == id.as_str());
    }
}

#[test]
fn without_the_agent_calls_fail_and_nothing_hangs() {
    for runtime in RUNTIMES {
        if let Some(why) = lacks(&[runtime]) {
            skip!("{why}");
        }
        let mut site = Site::new("");
        let profile = site.profile("default", &[]);
        let script = "mount -t tmpfs x /mnt; echo $?; while test ! -e /go/on; do sleep 0.05; done; \
                      mount -t tmpfs x /mnt; mknod /go/null c 1 3; echo goes on";
        let container = site.start(runtime, "orphan", &profile, script);
        let until = Instant::now() + PATIENCE;
        while site.project.read("orphan.out") != "0\n" {
            assert!(Instant::now() < until, "{}", site.project.read("orphan.out"));
            std::thread::sleep(Duration::from_millis(5));
        }
        site.agent.kill().unwrap();
        site.agent.wait().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        site.project.write("rootfs/go/on", "");
        let out = site.finish("orphan", container);
        assert_eq!(out.matches("Function not implemented").count(), 2, "{out}");
        assert!(out.lines().any(|line| line == "goes on"), "{out}");
        // And another is not even started.
        let next = site.start(runtime, "next", &profile, "echo started");
        assert!(!site.finish("next", next).contains("started"));
    }
}

#[test]
fn signals_make_no_call_twice() {
    if let Some(why) = lacks(&["crun"]) {
        skip!("{why}");
    }
    let site = Site::new("");
    // As runc has to load it, and as crun can.
    for more in [&[][..], &["--runtime=crun"]] {
        let profile = site.profile("default", more);
        let id = format!("interrupted-{}", more.len());
        let container = site.start("crun", &id, &profile, "interrupted 100 200 /go");
        let out = site.finish(&id, container);
        assert!(out.contains(" twice 0 refused 0 missing 0"), "{out}");
        let signals = out.split(' ').skip_while(|word| *word != "signals").nth(1).unwrap();
        assert!(signals.parse::<u32>().unwrap() > 0, "no signal came: {out}");
    }
}

#[test]
fn only_what_the_owner_allows_is_chosen() {
    if let Some(why) = lacks(&["crun"]) {
        skip!("{why}");
    }
    let site = Site::new("default = \"plain\"\n");
    let profile = site.profile("default", &[]);
    let container = site.start("crun", "greedy", &profile, "mount -t tmpfs x /mnt || echo refused");
    let out = site.finish("greedy", container);
    assert!(out.contains("Function not implemented") && out.contains("refused"), "{out}");
    let line = site.refuses("policy default is not one that containers may choose");
    assert_eq!(line["container"], "greedy");
}

#[test]
fn rubbish_is_told_and_stops_nobody() {
    if let Some(why) = lacks(&["crun"]) {
        skip!("{why}");
    }
    let site = Site::new("");
    // Root may connect whatever the mode, and is a stranger to a user's agent: the user's own programs do it here.
    let speak = |text: &str| {
        let script = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(sys.argv[2].encode()); \
                      print('closed' if s.recv(1)==b'' else 'answered')";
        let mut command = as_user("python3");
        command.args(["-c", script]).arg(site.socket()).arg(text);
        outcome(command).out
    };
    let state = r#"{"fds":["seccompFd"],"pid":1,"state":{"id":"x","status":"creating"}}"#;
    if has("python3") {
        assert_eq!(speak("garbage"), "closed\n");
        site.refuses("no ContainerProcessState");
        assert_eq!(speak(state), "closed\n");
        site.refuses("1 descriptors are named, and 0 were sent");
    }
    // Some say nothing, or begin and do not end; a container is served all the same.
    let silent = "import socket,sys,time; s=[socket.socket(socket.AF_UNIX) for _ in range(40)]; [x.connect(sys.argv[1]) for x in s]; \
                  [x.send(b'{') for x in s[:20]]; print('there', flush=True); time.sleep(60)";
    let mut slow = has("python3").then(|| {
        let mut command = as_user("python3");
        let mut slow = command.args(["-c", silent]).arg(site.socket()).stdout(Stdio::piped()).spawn().unwrap();
        slow.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
        slow
    });
    let container = site.start("crun", "patient", &site.profile("default", &[]), MOUNTS);
    works(&site.finish("patient", container));
    if let Some(slow) = &mut slow {
        slow.kill().unwrap();
        slow.wait().unwrap();
        site.refuses("cut short");
    }
}

#[test]
fn strangers_are_refused() {
    if !is_root() {
        skip!("only root can be somebody else");
    }
    let site = Site::new("");
    // Whoever connects has got past two directories already, which are closed to everybody but root.
    let mut stranger = UnixStream::connect(site.socket()).unwrap();
    let _ = stranger.write_all(b"{}");
    let line = site.refuses("user 0 is not the one whom this agent serves");
    assert!(line.get("container").is_none(), "{line}");
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(site.socket()), mode(site.project.join("run"))), (0o600, 0o700));
}

#[test]
fn there_is_one_agent_at_a_socket_and_it_cleans_up() {
    let mut site = Site::new("");
    let socket = site.socket();
    let second = || {
        let mut command = as_user(&sentry_tests::site().sentry);
        command.args(["agent", "--socket"]).arg(&socket);
        command
    };
    outcome(second()).exits(125).says("an agent listens at").says("--socket");
    nix::sys::signal::kill(pid(&site.agent), nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(site.agent.wait().unwrap().success());
    assert!(!site.socket().exists());
    // What a killed one left is nobody's.
    let mut third = second();
    let mut killed = third.stderr(Stdio::piped()).spawn().unwrap();
    BufReader::new(killed.stderr.take().unwrap()).read_line(&mut String::new()).unwrap();
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(site.socket().exists());
    let mut fourth = second();
    site.agent = fourth.stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(site.agent.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("listens at"), "{line}");
}

fn pid(child: &Child) -> nix::unistd::Pid {
    nix::unistd::Pid::from_raw(child.id().try_into().unwrap())
}

#[test]
fn policies_are_shown_and_impossible_profiles_are_not() {
    let shown = |arguments: &[&str]| {
        let mut command = as_user(&site().sentry);
        command.args(["policy", "show"]).args(arguments);
        outcome(command)
    };
    assert!(shown(&[]).exits(0).out.contains("\nplain "));
    assert!(shown(&["plain"]).exits(0).out.contains("mount    refused"));
    shown(&["mine"]).exits(125).says("there is no policy \"mine\"");
    let impossible = shown(&["judge", "--as", "oci", "--listener", "/tmp/s"]).exits(125);
    impossible.says("which runc and crun need before they run the program").says("sentry oci");
    shown(&["plain", "--as", "oci", "--listener", "s"]).exits(125).says("not an absolute path");
    shown(&["plain", "--as", "oci"]).exits(125).says("XDG_RUNTIME_DIR");
}
