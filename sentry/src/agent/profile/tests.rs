use syscalls::table::{Feature, Surface};

use super::*;

fn destination() -> Destination {
    Destination { socket: "/run/sentry/agent.sock".into(), metadata: "default".into(), wait_killable: false }
}

fn profile(surface: Surface, features: &[Feature]) -> Result<serde_json::Value, String> {
    let routes = Routes::new(Arch::native(), surface, features);
    let text = write(&routes, "tried", &destination()).map_err(|failure| failure.to_string())?;
    Ok(serde_json::from_str(&text).unwrap())
}

#[test]
fn dump() {
    let routes = Routes::new(Arch::native(), Surface::Compat, &[Feature::HostNetwork]);
    let text = write(&routes, "tried", &destination()).unwrap();
    std::fs::write("/tmp/ag-x/dump.json", &text).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value.as_object_mut().unwrap().remove("listenerPath");
    let text = value.to_string().replace("SCMP_ACT_NOTIFY", "SCMP_ACT_TRAP");
    std::fs::write("/tmp/ag-x/dump2.json", &text).unwrap();
    let program = crate::monitor::profile::load(std::path::Path::new("/tmp/ag-x/dump2.json")).unwrap();
    eprintln!("{} instructions", program.len());
    let _ = profile(Surface::Judge, &[]);
}
