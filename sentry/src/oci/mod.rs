//! `sentry oci`: a container runtime as the OCI runtime specification has it, whose containers are supervised.
//!
//! Engines call it as they call runc and crun; under the name `sentry-oci` it needs no verb. What happens inside the
//! container's namespaces is in [`shim::container`], who answers its trapped calls in [`crate::agent`].

pub mod cgroup;
