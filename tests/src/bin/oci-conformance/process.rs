//! config.md, Process: how the program is run.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use sentry_tests::oci::Stand;
use serde_json::json;

use crate::verdict::{Test, Verdict, must};

const PLACE: &str = "config.md, Process";
const LINUX: &str = "config.md, Linux Process";

pub const TESTS: &[Test] = &[
    must("process_cwd", PLACE, "cwd is the working directory", cwd),
    must("process_env", PLACE, "env is the environment, in its order and nothing else", env),
    must("process_args", PLACE, "args are passed as they are", args),
    must("process_args_by_path", PLACE, "args[0] without a slash is looked for along PATH, as execvp does", by_path),
    must("process_not_found", PLACE, "a program that does not exist is an error", not_found),
    must("process_not_executable", PLACE, "a program that may not be executed is an error", not_executable),
    must("process_no_new_privileges", LINUX, "noNewPrivileges sets no_new_privs", |stand| privileges(stand, true)),
    must("process_new_privileges", LINUX, "without noNewPrivileges no_new_privs is not set", |stand| {
        privileges(stand, false)
    }),
    must("process_oom_score", LINUX, "oomScoreAdj is set", oom_score),
    must("process_oom_score_unchanged", LINUX, "without oomScoreAdj it is not changed", oom_unchanged),
    must("process_scheduler_batch", LINUX, "scheduler: policy and nice value", batch).since("1.1"),
    must("process_scheduler_fifo", LINUX, "scheduler: a real-time policy and its priority", fifo).since("1.1"),
    must("process_scheduler_invalid", LINUX, "scheduler: an unknown policy is refused", bad_scheduler).since("1.1"),
    must("process_io_priority", LINUX, "ioPriority: class and priority", io_priority).since("1.1"),
    must("process_io_priority_invalid", LINUX, "ioPriority: an unknown class is refused", bad_io_priority).since("1.1"),
];

fn cwd(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    fs::create_dir_all(bundle.rootfs("deep/er")).map_err(|error| error.to_string())?;
    bundle.config["process"]["cwd"] = json!("/deep/er");
    same!(bundle.report(&[])?["cwd"], json!("/deep/er"), "cwd");
    Ok(())
}

fn env(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    let given = json!(["FIRST=1", "SPACED=a b = c", "EMPTY=", "HOME=/somewhere"]);
    bundle.config["process"]["env"] = given.clone();
    same!(bundle.report(&[])?["env"], given, "environment");
    Ok(())
}

fn args(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    let report = bundle.report(&["/a b", "", "'quoted'", "$HOME", "*"])?;
    same!(report["args"], json!(["/probe", "report", "/a b", "", "'quoted'", "$HOME", "*"]), "args");
    Ok(())
}

fn by_path(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    fs::create_dir_all(bundle.rootfs("opt/bin")).map_err(|error| error.to_string())?;
    fs::rename(bundle.rootfs("probe"), bundle.rootfs("opt/bin/probe")).map_err(|error| error.to_string())?;
    bundle.config["process"]["env"] = json!(["PATH=/nowhere:/opt/bin"]);
    bundle.config["process"]["args"] = json!(["probe", "exit", "21"]);
    same!(bundle.run()?.0, 21, "exit");
    Ok(())
}

fn not_found(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["process"]["args"] = json!(["/no/such/program"]);
    let why = bundle.is_refused_as_it_is()?;
    let known = ["no such file or directory", "not found"];
    ensure!(known.iter().any(|words| why.to_lowercase().contains(words)), "the error does not tell: {why}");
    Ok(())
}

fn not_executable(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    let file = bundle.rootfs("plain");
    fs::write(&file, "text")
        .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(0o644)))
        .map_err(|error| error.to_string())?;
    bundle.config["process"]["args"] = json!(["/plain"]);
    bundle.is_refused_as_it_is()?;
    Ok(())
}

fn privileges(stand: &Stand, forbidden: bool) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["process"]["noNewPrivileges"] = json!(forbidden);
    let report = bundle.report(&[])?;
    same!(report["status"]["NoNewPrivs"], json!(if forbidden { "1" } else { "0" }), "NoNewPrivs");
    Ok(())
}

fn own_score() -> i64 {
    fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}

fn oom_score(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    // An ordinary user may only raise it.
    let score = (own_score() + 111).min(1000);
    bundle.config["process"]["oomScoreAdj"] = json!(score);
    same!(bundle.report(&[])?["oom_score_adj"], json!(score.to_string()), "oom_score_adj");
    Ok(())
}

fn oom_unchanged(stand: &Stand) -> Verdict {
    let report = stand.bundle().report(&[])?;
    same!(report["oom_score_adj"], json!(own_score().to_string()), "oom_score_adj");
    Ok(())
}

fn batch(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 7 });
    let seen = &bundle.report(&[])?["scheduler"];
    same!([&seen["policy"], &seen["nice"]], [&json!(libc::SCHED_BATCH), &json!(7)], "policy and nice value");
    Ok(())
}

fn fifo(stand: &Stand) -> Verdict {
    if !stand.root {
        return crate::verdict::not_applicable("an ordinary user may not use real-time policies");
    }
    let mut bundle = stand.bundle();
    bundle.config["process"]["scheduler"] = json!({ "policy": "SCHED_FIFO", "priority": 3 });
    // A new group of version 1 has no time for such processes unless it is given some.
    if stand.without_cgroups.is_none() && std::path::Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists() {
        bundle.config["linux"]["cgroupsPath"] = json!(format!("/{}", bundle.id));
        bundle.config["linux"]["resources"] =
            json!({ "cpu": { "realtimePeriod": 1_000_000, "realtimeRuntime": 10_000 } });
    }
    let seen = &bundle.report(&[])?["scheduler"];
    same!([&seen["policy"], &seen["priority"]], [&json!(libc::SCHED_FIFO), &json!(3)], "policy and priority");
    Ok(())
}

fn bad_scheduler(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["process"]["scheduler"] = json!({ "policy": "SCHED_WHENEVER" });
    bundle.is_refused()?;
    Ok(())
}

fn io_priority(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 });
    // Class 2 in the upper bits.
    same!(bundle.report(&[])?["io_priority"], json!(2 << 13 | 6), "ioprio");
    Ok(())
}

fn bad_io_priority(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_LUCK", "priority": 1 });
    bundle.is_refused()?;
    Ok(())
}
