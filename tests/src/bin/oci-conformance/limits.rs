//! config.md, POSIX process: resource limits.

use sentry_tests::oci::Stand;
use serde_json::json;

use crate::verdict::{Test, Verdict, must};

const PLACE: &str = "config.md, POSIX process";

pub const TESTS: &[Test] = &[
    must("rlimits_soft_and_hard", PLACE, "rlim_cur and rlim_max match the configuration", both),
    must("rlimits_of_every_type", PLACE, "each type of getrlimit(2) is understood", every),
    must("rlimits_duplicated", PLACE, "two entries of one type are refused", twice),
    must("rlimits_unknown", PLACE, "a type that the kernel does not have is refused", unknown),
];

fn both(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["process"]["rlimits"] = json!([
        { "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }, { "type": "RLIMIT_CORE", "soft": 0, "hard": 4096 }
    ]);
    let seen = &bundle.report(&[])?["limits"];
    same!(seen["RLIMIT_NOFILE"], json!([100, 200]), "RLIMIT_NOFILE");
    same!(seen["RLIMIT_CORE"], json!([0, 4096]), "RLIMIT_CORE");
    Ok(())
}

fn every(stand: &Stand) -> Verdict {
    // Low enough for an ordinary user, high enough for the probe and the runtime.
    let all = [
        ("RLIMIT_AS", 1_u64 << 40),
        ("RLIMIT_CORE", 0),
        ("RLIMIT_CPU", 1000),
        ("RLIMIT_DATA", 1_u64 << 40),
        ("RLIMIT_FSIZE", 1_u64 << 40),
        ("RLIMIT_LOCKS", 1000),
        ("RLIMIT_MEMLOCK", 65_536),
        ("RLIMIT_MSGQUEUE", 65_536),
        ("RLIMIT_NICE", 0),
        ("RLIMIT_NOFILE", 512),
        ("RLIMIT_NPROC", 10_000),
        ("RLIMIT_RSS", 1_u64 << 40),
        ("RLIMIT_RTPRIO", 0),
        ("RLIMIT_RTTIME", 1_000_000),
        ("RLIMIT_SIGPENDING", 1000),
        ("RLIMIT_STACK", 1 << 22),
    ];
    let mut bundle = stand.bundle();
    bundle.config["process"]["rlimits"] =
        all.iter().map(|(kind, value)| json!({ "type": kind, "soft": value, "hard": value })).collect();
    let seen = &bundle.report(&[])?["limits"];
    for (kind, value) in all {
        same!(seen[kind], json!([value, value]), kind);
    }
    Ok(())
}

fn twice(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    let one = json!({ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 });
    bundle.config["process"]["rlimits"] = json!([one, one]);
    bundle.is_refused()?;
    Ok(())
}

fn unknown(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_PATIENCE", "soft": 1, "hard": 1 }]);
    bundle.is_refused()?;
    Ok(())
}
