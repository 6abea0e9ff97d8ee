//! Supervision of containers: who takes over their listeners, and which policy answers their calls.
//!
//! `sentry oci` keeps one keeper for each container that it made; `sentry agent` is one for containers that runc or crun
//! made. Both start a supervisor for each container, which lives in the container's namespaces, and write its audit log.
pub mod profile;
