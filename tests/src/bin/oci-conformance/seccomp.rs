//! config-linux.md, Seccomp: each action and operator, by what a call returns inside.

use std::io::{IoSliceMut, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use sentry_tests::oci::{Bundle, Stand};
use serde_json::{Value, json};

use crate::verdict::{Test, Unmet, Verdict, must};

const PLACE: &str = "config-linux.md, Seccomp";

/// Calls that a program can do without, and that no runtime needs between loading the filter and the program.
const PERSONALITY: i64 = libc::SYS_personality;
const GETPPID: i64 = libc::SYS_getpriority;

pub const TESTS: &[Test] = &[
    must("seccomp_errno", PLACE, "SCMP_ACT_ERRNO: EPERM if nothing else is said", |stand| {
        acts(stand, "SCMP_ACT_ERRNO", None, libc::EPERM)
    }),
    must("seccomp_errno_value", PLACE, "errnoRet is what the call returns", |stand| {
        acts(stand, "SCMP_ACT_ERRNO", Some(99), 99)
    }),
    must("seccomp_default_errno", PLACE, "defaultErrnoRet is what other calls return", default_errno).since("1.1"),
    must("seccomp_several_names", PLACE, "all of names are meant", names),
    must("seccomp_kill", PLACE, "SCMP_ACT_KILL_PROCESS ends the program", |stand| ends(stand, "SCMP_ACT_KILL_PROCESS")),
    must("seccomp_kill_thread", PLACE, "SCMP_ACT_KILL ends the thread", |stand| ends(stand, "SCMP_ACT_KILL")),
    must("seccomp_trap", PLACE, "SCMP_ACT_TRAP sends SIGSYS", |stand| ends(stand, "SCMP_ACT_TRAP")),
    must("seccomp_log", PLACE, "SCMP_ACT_LOG lets the call through", log),
    must("seccomp_eq", PLACE, "SCMP_CMP_EQ", |stand| compares(stand, "SCMP_CMP_EQ", 5, None, [false, true, false])),
    must("seccomp_ne", PLACE, "SCMP_CMP_NE", |stand| compares(stand, "SCMP_CMP_NE", 5, None, [true, false, true])),
    must("seccomp_lt", PLACE, "SCMP_CMP_LT", |stand| compares(stand, "SCMP_CMP_LT", 5, None, [true, false, false])),
    must("seccomp_le", PLACE, "SCMP_CMP_LE", |stand| compares(stand, "SCMP_CMP_LE", 5, None, [true, true, false])),
    must("seccomp_gt", PLACE, "SCMP_CMP_GT", |stand| compares(stand, "SCMP_CMP_GT", 5, None, [false, false, true])),
    must("seccomp_ge", PLACE, "SCMP_CMP_GE", |stand| compares(stand, "SCMP_CMP_GE", 5, None, [false, true, true])),
    must("seccomp_masked_eq", PLACE, "SCMP_CMP_MASKED_EQ: value is the mask, valueTwo what remains", |stand| {
        compares(stand, "SCMP_CMP_MASKED_EQ", 3, Some(1), [false, true, false])
    }),
    must("seccomp_two_arguments", PLACE, "arguments of one rule must all match", both_arguments),
    must("seccomp_architectures", PLACE, "architectures are accepted", architectures),
    must("seccomp_flags", PLACE, "flags are accepted", flags),
    must("seccomp_without_new_privileges", PLACE, "a filter without noNewPrivileges", privileged),
    must("seccomp_is_loaded", PLACE, "the program runs under a filter", loaded),
    must("seccomp_unknown_action", PLACE, "an unknown action is refused", |stand| {
        refused(stand, json!({ "defaultAction": "SCMP_ACT_MAYBE" }))
    }),
    must("seccomp_unknown_operator", PLACE, "an unknown operator is refused", unknown_operator),
    must("seccomp_names_are_required", PLACE, "a rule without names is refused", |stand| {
        refused(
            stand,
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": [], "action": "SCMP_ACT_ERRNO" }] }),
        )
    }),
    must("seccomp_errno_where_there_is_none", PLACE, "errnoRet of an action that takes none is an error", misplaced)
        .since("1.1"),
    must("seccomp_listener", PLACE, "SCMP_ACT_NOTIFY: the descriptor and the state go to listenerPath", listener)
        .since("1.1"),
    must(
        "seccomp_listener_without_notify",
        PLACE,
        "listenerPath is ignored where SCMP_ACT_NOTIFY is not used",
        ignored,
    )
    .since("1.1"),
    must("seccomp_listener_nobody_there", PLACE, "if nobody listens the runtime fails", nobody).since("1.1"),
    must("seccomp_metadata_without_a_listener", PLACE, "listenerMetadata without listenerPath is refused", |stand| {
        refused(stand, json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x" }))
    })
    .since("1.1"),
];

fn profile(bundle: &mut Bundle, rule: Value) {
    bundle.config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
}

/// What calls return inside.
fn tried(bundle: &mut Bundle, calls: &[String]) -> Result<Vec<i64>, Unmet> {
    bundle.args(std::iter::once("try").chain(calls.iter().map(String::as_str)));
    let (code, out) = bundle.run()?;
    Ok(serde_json::from_str(&out).map_err(|_| format!("the program ended with {code} and said {out:?}"))?)
}

fn acts(stand: &Stand, action: &str, value: Option<i32>, wanted: i32) -> Verdict {
    let mut bundle = stand.bundle();
    let mut rule = json!({ "names": ["personality"], "action": action });
    if let Some(value) = value {
        rule["errnoRet"] = json!(value);
    }
    profile(&mut bundle, rule);
    let seen = tried(&mut bundle, &[format!("{PERSONALITY},4294967295")])?;
    same!(seen, [-i64::from(wanted)], "what personality returned");
    Ok(())
}

fn default_errno(stand: &Stand) -> Verdict {
    // Everything is allowed by name but what is tried; names that this machine does not have are ignored.
    let allowed: Vec<String> =
        syscalls::table::all().iter().map(|call| call.name.to_owned()).filter(|name| name != "personality").collect();
    let mut bundle = stand.bundle();
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 77, "syscalls": [{ "names": allowed, "action": "SCMP_ACT_ALLOW" }]
    });
    same!(tried(&mut bundle, &[format!("{PERSONALITY},4294967295")])?, [-77], "what personality returned");
    Ok(())
}

fn names(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    profile(&mut bundle, json!({ "names": ["personality", "getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5 }));
    let seen = tried(&mut bundle, &[format!("{PERSONALITY},4294967295"), format!("{GETPPID},0,0")])?;
    same!(seen, [-5, -5], "what they returned");
    Ok(())
}

fn ends(stand: &Stand, action: &str) -> Verdict {
    let mut bundle = stand.bundle();
    profile(&mut bundle, json!({ "names": ["personality"], "action": action }));
    bundle.args(["try".to_owned(), format!("{PERSONALITY},4294967295")]);
    let (code, out) = bundle.run()?;
    same!(code, 128 + libc::SIGSYS, format!("exit (it said {out:?})"));
    Ok(())
}

fn log(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    profile(&mut bundle, json!({ "names": ["personality"], "action": "SCMP_ACT_LOG" }));
    same!(tried(&mut bundle, &[format!("{PERSONALITY},4294967295")])?, [0], "what personality returned");
    Ok(())
}

/// Which of the arguments 4, 5 and 6 are matched.
fn compares(stand: &Stand, operator: &str, value: u64, two: Option<u64>, matched: [bool; 3]) -> Verdict {
    let mut bundle = stand.bundle();
    let mut arg = json!({ "index": 1, "value": value, "op": operator });
    if let Some(two) = two {
        arg["valueTwo"] = json!(two);
    }
    profile(
        &mut bundle,
        json!({ "names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 88, "args": [arg] }),
    );
    let seen = tried(&mut bundle, &[4, 5, 6].map(|argument| format!("{GETPPID},77,{argument}")))?;
    let seen: Vec<bool> = seen.iter().map(|result| *result == -88).collect();
    same!(seen, matched, "matches for 4, 5 and 6");
    Ok(())
}

fn both_arguments(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    let args =
        json!([{ "index": 0, "value": 77, "op": "SCMP_CMP_EQ" }, { "index": 1, "value": 5, "op": "SCMP_CMP_EQ" }]);
    profile(&mut bundle, json!({ "names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 88, "args": args }));
    let seen = tried(&mut bundle, &["77,5", "77,6", "78,5"].map(|arguments| format!("{GETPPID},{arguments}")))?;
    let seen: Vec<bool> = seen.iter().map(|result| *result == -88).collect();
    same!(seen, [true, false, false], "matches");
    Ok(())
}

fn architectures(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    profile(&mut bundle, json!({ "names": ["personality"], "action": "SCMP_ACT_ERRNO" }));
    bundle.config["linux"]["seccomp"]["architectures"] = json!(if cfg!(target_arch = "x86_64") {
        vec!["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    } else {
        vec!["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    });
    same!(tried(&mut bundle, &[format!("{PERSONALITY},4294967295")])?, [-1], "what personality returned");
    Ok(())
}

fn flags(stand: &Stand) -> Verdict {
    for flag in ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"] {
        let mut bundle = stand.bundle();
        profile(&mut bundle, json!({ "names": ["personality"], "action": "SCMP_ACT_ERRNO" }));
        bundle.config["linux"]["seccomp"]["flags"] = json!([flag]);
        let seen = tried(&mut bundle, &[format!("{PERSONALITY},4294967295")]);
        let seen = seen.map_err(|why| match why {
            Unmet::Failed(why) => Unmet::Failed(format!("{flag}: {why}")),
            other @ Unmet::NotApplicable(_) => other,
        })?;
        same!(seen, [-1], flag);
    }
    Ok(())
}

fn privileged(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["process"]["noNewPrivileges"] = json!(false);
    profile(&mut bundle, json!({ "names": ["personality"], "action": "SCMP_ACT_ERRNO" }));
    same!(tried(&mut bundle, &[format!("{PERSONALITY},4294967295")])?, [-1], "what personality returned");
    Ok(())
}

fn loaded(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    profile(&mut bundle, json!({ "names": ["personality"], "action": "SCMP_ACT_ERRNO" }));
    same!(bundle.report(&[])?["status"]["Seccomp"], json!("2"), "Seccomp in its status");
    Ok(())
}

fn refused(stand: &Stand, seccomp: Value) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["linux"]["seccomp"] = seccomp;
    bundle.is_refused()?;
    Ok(())
}

fn unknown_operator(stand: &Stand) -> Verdict {
    let arg = json!({ "index": 0, "value": 1, "op": "SCMP_CMP_ALMOST" });
    refused(
        stand,
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["personality"], "action": "SCMP_ACT_ERRNO", "args": [arg] }] }),
    )
}

fn misplaced(stand: &Stand) -> Verdict {
    refused(
        stand,
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["personality"], "action": "SCMP_ACT_KILL", "errnoRet": 5 }] }),
    )
}

fn notifying(bundle: &mut Bundle, path: &std::path::Path) {
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "told",
        "syscalls": [{ "names": ["personality"], "action": "SCMP_ACT_NOTIFY" }]
    });
}

fn listener(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    let path = bundle.path.join("agent");
    let socket = UnixListener::bind(&path).map_err(|error| error.to_string())?;
    notifying(&mut bundle, &path);
    // The descriptor is handed over at create or at start, while the runtime waits for nothing but the socket.
    let taken = std::thread::spawn(move || take(&socket));
    bundle.args(["wait"]);
    let container = match bundle.start() {
        Ok(container) => container,
        Err(why) => {
            // Wakes the thread, which then has nothing to say.
            drop(std::os::unix::net::UnixStream::connect(&path));
            return Err(Unmet::Failed(why));
        }
    };
    let (state, fds) = taken.join().map_err(|_| "the agent panicked".to_owned())??;
    same!(fds.len(), 1, "descriptors");
    same!(state["fds"], json!(["seccompFd"]), "fds");
    same!(state["metadata"], json!("told"), "metadata");
    same!(state["pid"], json!(container.pid), "pid");
    same!(state["state"]["id"], json!(bundle.id), "state.id");
    ensure!(state["ociVersion"].is_string(), "ociVersion is {}", state["ociVersion"]);
    Ok(())
}

fn take(socket: &UnixListener) -> Result<(Value, Vec<OwnedFd>), String> {
    let (mut stream, _) = socket.accept().map_err(|error| error.to_string())?;
    let mut payload = vec![0_u8; 65_536];
    let mut space = nix::cmsg_space!([RawFd; 8]);
    let (length, fds) = {
        let mut buffers = [IoSliceMut::new(&mut payload)];
        let message = recvmsg::<()>(stream.as_raw_fd(), &mut buffers, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC);
        let message = message.map_err(|error| error.to_string())?;
        let mut fds = Vec::new();
        for part in message.cmsgs().map_err(|error| error.to_string())? {
            if let ControlMessageOwned::ScmRights(descriptors) = part {
                // SAFETY: the kernel has just installed them for us.
                fds.extend(descriptors.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        (message.bytes, fds)
    };
    payload.truncate(length);
    stream.read_to_end(&mut payload).map_err(|error| error.to_string())?;
    let state = serde_json::from_slice(&payload).map_err(|error| error.to_string())?;
    Ok((state, fds))
}

fn nobody(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    let path = bundle.path.join("nobody");
    notifying(&mut bundle, &path);
    bundle.is_refused()?;
    Ok(())
}

fn ignored(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    profile(&mut bundle, json!({ "names": ["personality"], "action": "SCMP_ACT_ERRNO" }));
    bundle.config["linux"]["seccomp"]["listenerPath"] = json!(bundle.path.join("nobody"));
    same!(tried(&mut bundle, &[format!("{PERSONALITY},4294967295")])?, [-1], "what personality returned");
    Ok(())
}
