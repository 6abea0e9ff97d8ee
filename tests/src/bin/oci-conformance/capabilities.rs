//! config.md, Linux Process: the five sets of capabilities.

use sentry_tests::oci::Stand;
use serde_json::{Value, json};

use crate::verdict::{Test, Unmet, Verdict, must};

const PLACE: &str = "config.md, Linux Process";

pub const TESTS: &[Test] = &[
    must("capabilities_effective", PLACE, "effective is that set", |stand| set(stand, "effective")),
    must("capabilities_permitted", PLACE, "permitted is that set", |stand| set(stand, "permitted")),
    must("capabilities_bounding", PLACE, "bounding is that set", |stand| set(stand, "bounding")),
    must("capabilities_inheritable", PLACE, "inheritable is that set", |stand| set(stand, "inheritable")),
    must("capabilities_ambient", PLACE, "ambient is that set", |stand| set(stand, "ambient")),
    must("capabilities_none", PLACE, "empty sets leave root without any", none),
    must("capabilities_of_a_user", PLACE, "the sets hold for other users than root, by ambient ones", user),
];

const CHOWN: u64 = 1 << 0;
const KILL: u64 = 1 << 5;
const BIND: u64 = 1 << 10;
const RAW: u64 = 1 << 13;

fn bits(report: &Value, field: &str) -> u64 {
    u64::from_str_radix(report["status"][field].as_str().unwrap_or_default(), 16).unwrap_or(u64::MAX)
}

/// All sets differ as far as execve of root under no_new_privs keeps them apart: permitted and effective cannot grow.
fn set(stand: &Stand, which: &str) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["process"]["capabilities"] = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW"],
        "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
        "effective": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
        "inheritable": ["CAP_KILL", "CAP_NET_BIND_SERVICE"],
        "ambient": ["CAP_NET_BIND_SERVICE"],
    });
    let report = bundle.report(&[])?;
    let (field, wanted) = match which {
        "effective" => ("CapEff", CHOWN | KILL | BIND),
        "permitted" => ("CapPrm", CHOWN | KILL | BIND),
        "bounding" => ("CapBnd", CHOWN | KILL | BIND | RAW),
        "inheritable" => ("CapInh", KILL | BIND),
        _ => ("CapAmb", BIND),
    };
    let seen = bits(&report, field);
    ensure!(seen == wanted, "{field} is {seen:#x} instead of {wanted:#x}");
    Ok(())
}

fn none(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["process"]["capabilities"] =
        json!({ "bounding": [], "permitted": [], "effective": [], "inheritable": [], "ambient": [] });
    let report = bundle.report(&[])?;
    for field in ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"] {
        let seen = bits(&report, field);
        ensure!(seen == 0, "{field} is {seen:#x}");
    }
    Ok(())
}

fn user(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    if !bundle.map_many() {
        return Err(Unmet::NotApplicable("the user has no subordinate ids".to_owned()));
    }
    bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    let one = ["CAP_NET_BIND_SERVICE"];
    bundle.config["process"]["capabilities"] = json!({ "bounding": ["CAP_NET_BIND_SERVICE", "CAP_CHOWN"], "permitted": one, "effective": one, "inheritable": one, "ambient": one });
    let report = bundle.report(&[])?;
    for (field, wanted) in
        [("CapEff", BIND), ("CapPrm", BIND), ("CapBnd", BIND | CHOWN), ("CapInh", BIND), ("CapAmb", BIND)]
    {
        let seen = bits(&report, field);
        ensure!(seen == wanted, "{field} is {seen:#x} instead of {wanted:#x}");
    }
    Ok(())
}
