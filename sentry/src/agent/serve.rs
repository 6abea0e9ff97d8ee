//! stub
use std::path::PathBuf;
pub fn usual_socket() -> PathBuf {
    PathBuf::from("/run/sentry/agent.sock")
}
