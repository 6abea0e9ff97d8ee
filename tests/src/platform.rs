//! The product's other platform in the tests.

/// Tests that cannot hold where the sentry traces every process, and why. Each of them is skipped there, aloud; the same is in
/// docs/platforms.md and in the table.
pub const NOT_TRACED: &[(&str, &str)] = &[
    ("debuggers", "a process has one tracer, and the sentry is it"),
    ("the last descriptor", "a guest is given a descriptor only where two numbers are free"),
];

/// Whether the product's other platform is tried: with `SENTRY_TEST_PLATFORM=ptrace`, and always by the tests called `ptrace`.
/// Then a binary that always takes it stands in the product's place.
pub fn on_ptrace() -> bool {
    let asked = std::env::var_os("SENTRY_TEST_PLATFORM").is_some_and(|platform| platform == "ptrace");
    let own = std::env::current_exe().ok();
    let name = own.as_deref().and_then(std::path::Path::file_name).map(std::ffi::OsStr::to_string_lossy);
    asked || name.is_some_and(|name| name.starts_with("ptrace-"))
}

/// Why a test cannot hold here, if it is one of [`NOT_TRACED`].
pub fn why_not(what: &str) -> Option<&'static str> {
    let (_, why) = NOT_TRACED.iter().find(|(name, _)| *name == what).expect("the list has it");
    on_ptrace().then_some(why)
}

/// Skips the rest of a test where the sentry traces every process and it is one that cannot hold there.
#[macro_export]
macro_rules! not_traced {
    ($what:literal) => {
        if let Some(why) = $crate::platform::why_not($what) {
            $crate::skip!("--platform ptrace: {why}");
        }
    };
}
