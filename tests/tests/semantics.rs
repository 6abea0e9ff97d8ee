//! What programs see: the policy's world, and nothing that surprises them.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::io::Write;
use std::process::Stdio;

use sentry_tests::{Project, Sandbox, as_user, has, is_root, outcome, site, skip};

#[test]
fn clock_mounts_and_names_are_the_hosts_and_stay() {
    let project = Project::new();
    let before = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let run = Sandbox::new(&project)
        .sh("date -s '2000-01-01' >/dev/null; mount -t tmpfs none /tmp; hostname other; date +%Y");
    assert!(!run.out.contains("2000"), "{run:?}");
    let denied: Vec<&str> =
        run.report["denials"].as_array().unwrap().iter().map(|d| d["call"].as_str().unwrap()).collect();
    for call in ["clock_settime", "mount", "sethostname"] {
        assert!(denied.contains(&call), "{denied:?}");
    }
    run.says("3 calls were denied").says("--tmpfs /tmp").says("--hostname other");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), before);
}

#[test]
fn copies_are_listed_with_deletions_first_and_the_host_is_untouched() {
    let project = Project::new();
    project.write("old", "old");
    project.write("kept", "kept");
    let run = Sandbox::new(&project).sh("rm old; echo more >> kept; echo new > a-new; cat kept").exits(0);
    assert_eq!(run.out, "keptmore\n");
    let changes: Vec<String> = run.report["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| {
            format!("{} {}", c["change"].as_str().unwrap(), c["path"].as_str().unwrap().rsplit('/').next().unwrap())
        })
        .collect();
    assert_eq!(changes, ["deleted old", "changed kept", "new a-new"]);
    run.says("deleted").says("untouched");
    assert_eq!((project.read("old").as_str(), project.read("kept").as_str()), ("old", "kept"));
    assert!(!project.has("a-new"));
}

#[test]
fn nothing_is_left_when_nothing_changed() {
    let project = Project::new();
    let run = Sandbox::new(&project).sh("ls >/dev/null").exits(0);
    assert!(run.report["changes_kept"].is_null());
    assert!(run.err.is_empty(), "{}", run.err);
}

#[test]
fn grants_do_what_they_say() {
    let project = Project::new();
    project.write("file", "old");
    Sandbox::new(&project).options(["--write", "."]).sh("echo new > file").exits(0);
    assert_eq!(project.read("file"), "new\n");
    let run = Sandbox::new(&project).options(["--read", "."]).sh("echo x > file; cat file");
    assert_eq!(run.out, "new\n");
    assert!(run.err.contains("Read-only"), "{}", run.err);
    // The longest path wins, whatever the order.
    let run = Sandbox::new(&project).options(["--read", "file", "--write", "."]).sh("echo y > other && echo x > file");
    assert_ne!(run.code, 0);
    assert_eq!((project.read("other").as_str(), project.read("file").as_str()), ("y\n", "new\n"));
    let volume = format!("{}:/data:ro", project.path().display());
    let run = Sandbox::new(&Project::new()).options(["--volume", &volume]).sh("cat /data/file; touch /data/x");
    assert_eq!(run.out, "new\n");
    assert_ne!(run.code, 0);
}

#[test]
fn a_copy_in_memory_leaves_nothing() {
    let project = Project::new();
    project.write("file", "old");
    let run = Sandbox::new(&project).options(["--cow-store", "memory"]).sh("rm file; echo x > new; ls").exits(0);
    assert_eq!(run.out, "new\n");
    assert_eq!(run.report["changes"].as_array().unwrap().len(), 2, "{:?}", run.report);
    assert!(run.report["changes_kept"].is_null());
    assert!(project.has("file"));
}

#[test]
fn private_places_are_private() {
    let project = Project::new();
    // A name that nobody else has on the host.
    let name = format!("private-{}", std::process::id());
    let script = format!("ls -A /tmp ~ | grep -v project; echo x > /tmp/{name} && echo y > ~/{name} && echo written");
    let run = Sandbox::new(&project).sh(&script);
    assert!(!run.out.contains("sentry-tests") && run.out.contains("written"), "{}", run.out);
    assert!(!std::path::Path::new("/tmp").join(&name).exists() && !site().home.join(&name).exists());
    let run = Sandbox::new(&project).options(["--tmpfs", "/scratch:1M"]).sh("head -c 2000000 /dev/zero > /scratch/f");
    assert_ne!(run.code, 0);
}

#[test]
fn the_environment_is_an_allow_list() {
    let project = Project::new();
    let run = Sandbox::new(&project).env("SECRET_TOKEN", "s3cret").options(["--env", "A=1"]).sh("env");
    assert!(!run.out.contains("s3cret"), "{}", run.out);
    assert!(run.out.contains("LANG=C.UTF-8") && run.out.contains("A=1"), "{}", run.out);
    let run = Sandbox::new(&project).env("SECRET_TOKEN", "s3cret").options(["--env", "SECRET_TOKEN"]).sh("env");
    assert!(run.out.contains("s3cret"));
}

#[test]
fn the_network_is_empty_but_for_loopback() {
    if !has("python3") {
        skip!("python3 is not installed");
    }
    let project = Project::new();
    let client =
        "import socket,sys\ntry: socket.create_connection(('93.184.216.34',443),2)\nexcept OSError as e: sys.exit(3)";
    let run = Sandbox::new(&project).run(["python3", "-c", client]).exits(3);
    run.because("denied").says("connect 93.184.216.34:443").says("--net all");
    let loopback = "import socket,threading\ns=socket.socket(); s.bind(('127.0.0.1',0)); s.listen()\n\
                    threading.Thread(target=lambda: s.accept()[0].sendall(b'hi')).start()\n\
                    print(socket.create_connection(s.getsockname()).recv(2))";
    for options in [&[][..], &["--write", "."]] {
        let run = Sandbox::new(&project).options(options).run(["python3", "-c", loopback]).exits(0);
        assert_eq!(run.out, "b'hi'\n");
    }
}

#[test]
fn pipes_are_binary_safe_and_files_are_appended_to() {
    let project = Project::new();
    let bytes: Vec<u8> = (0..1u32 << 20).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
    let mut child =
        Sandbox::new(&project).command(["cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.stdout == bytes);

    let log = project.write("log", "first\n");
    for word in ["second", "third"] {
        let file = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
        let mut command = Sandbox::new(&project).command(["sh", "-c", &format!("echo {word}")]);
        assert!(command.stdout(file).status().unwrap().success());
    }
    assert_eq!(project.read("log"), "first\nsecond\nthird\n");
    // A file shared without O_APPEND: both write where the other stopped.
    let mut command = as_user("bash");
    let script = format!("(\"$0\" run -q -- echo one; \"$0\" run -q -- echo two 2>&1; echo three) > {}", log.display());
    command.args(["-c", &script]).arg(&site().sentry).current_dir(project.path());
    outcome(command).exits(0);
    assert_eq!(project.read("log"), "one\ntwo\nthree\n");
}

#[test]
fn standard_input_is_not_eaten() {
    let project = Project::new();
    let lines: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
    let input = project.write("input", lines);
    let mut command = as_user("bash");
    command.args(["-c", "\"$0\" run -q -- true; head -n 1"]).arg(&site().sentry).current_dir(project.path());
    command.stdin(std::fs::File::open(input).unwrap());
    assert_eq!(outcome(command).exits(0).out, "line 0\n");
}

#[test]
fn the_mask_and_the_limits_of_the_caller_hold() {
    let project = Project::new();
    let mut command = as_user("bash");
    let script = "umask 027; \"$0\" run -q --write . -- sh -c 'umask; touch made; ulimit -c'";
    command.args(["-c", script]).arg(&site().sentry).current_dir(project.path());
    let run = outcome(command).exits(0);
    assert!(run.out.starts_with("0027\n"), "{}", run.out);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(project.join("made")).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn openat2_is_emulated_as_the_kernel_does_it() {
    if !has("python3") {
        skip!("python3 is not installed");
    }
    let project = Project::new();
    project.write("file", "content");
    let script = "import ctypes,os,struct\nl=ctypes.CDLL(None,use_errno=True)\n\
        def o(p,f,m=0,r=0):\n  h=struct.pack('QQQ',f,m,r)\n  n=l.syscall(437,-100,p.encode(),h,24)\n  return n if n>=0 else -ctypes.get_errno()\n\
        print(os.read(o('file',0),9), o('missing',0), o('../x/../..',0,0,8), o('file',0o100|0o200))\n\
        os.umask(0o027); fd=o('made',0o101,0o666); print(oct(os.fstat(fd).st_mode)); os.write(fd,b'x')";
    if cfg!(not(target_arch = "x86_64")) {
        skip!("the number in the script is the same everywhere, its flags are not");
    }
    let native = {
        let mut command = as_user("python3");
        command.args(["-c", script]).current_dir(project.path());
        outcome(command).exits(0)
    };
    std::fs::remove_file(project.join("made")).unwrap();
    let boxed = Sandbox::new(&project).options(["--write", "."]).run(["python3", "-c", script]).exits(0);
    assert_eq!(boxed.out, native.out);
}

#[test]
fn guests_of_root_are_nobody_and_leave_files_to_the_owner() {
    if !is_root() {
        skip!("only root can start a sandbox as root");
    }
    use std::os::unix::fs::MetadataExt;
    let directory = std::path::PathBuf::from(format!("/var/tmp/sentry-root-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    std::os::unix::fs::chown(&directory, Some(1234), Some(1234)).unwrap();
    let mut command = std::process::Command::new(&site().sentry);
    command.args([
        "run",
        "-q",
        "--write",
        ".",
        "--",
        "sh",
        "-c",
        "id -u; echo x > made; chmod 4755 made; sleep 0.5 & cat /proc/self/uid_map",
    ]);
    let child = command.current_dir(&directory).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let run = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(text.starts_with("1000\n"), "{text} {}", String::from_utf8_lossy(&run.stderr));
    let made = std::fs::metadata(directory.join("made")).unwrap();
    assert_eq!((made.uid(), made.gid(), made.mode() & 0o6000), (1234, 1234, 0));
    let _ = std::fs::remove_dir_all(&directory);
}
