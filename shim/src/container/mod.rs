//! What an OCI container's own processes do before its program runs: namespaces, mounts, devices, rights.
