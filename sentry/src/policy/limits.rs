//! Limits as a layer of the policy asks for them: the same options on the command line and in `[limits]`.

use serde::Deserialize;

use super::Limits;
use super::units::{Count, Cpus, Limit, Size, Span};

/// What one layer says about limits; what it does not mention stays as it was.
#[derive(clap::Args, Clone, Debug, Default, Deserialize, PartialEq)]
#[command(next_help_heading = "Limits (write none to lift one)")]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LimitChanges {
    /// Memory of all its processes together, such as 512M
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Limit<Size>>,
    /// Processes and threads
    #[arg(long, value_name = "N")]
    pub pids: Option<Limit<Count>>,
    /// Processors, such as 1.5
    #[arg(long, value_name = "N")]
    pub cpus: Option<Limit<Cpus>>,
    /// Time by the clock on the wall, such as 10s or 1m30s
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<Limit<Span>>,
    /// Processor time
    #[arg(long, value_name = "TIME")]
    pub cpu_time: Option<Limit<Span>>,
    /// Bytes in private directories and in copies of changed files
    #[arg(long, value_name = "SIZE")]
    pub disk: Option<Limit<Size>>,
    /// Bytes in one file
    #[arg(long, value_name = "SIZE")]
    pub max_file: Option<Limit<Size>>,
}

impl LimitChanges {
    /// Puts what is said here in the place of what `limits` said before.
    pub fn lay_over(self, limits: &mut Limits) {
        replace(&mut limits.memory, self.memory, |size| size.0);
        replace(&mut limits.pids, self.pids, |count| count.0);
        replace(&mut limits.cpus, self.cpus, |cpus| cpus.0);
        replace(&mut limits.timeout, self.timeout, |span| span.0);
        replace(&mut limits.cpu_time, self.cpu_time, |span| span.0);
        replace(&mut limits.disk, self.disk, |size| size.0);
        replace(&mut limits.max_file, self.max_file, |size| size.0);
    }
}

fn replace<T, V>(old: &mut Option<V>, new: Option<Limit<T>>, value: impl FnOnce(T) -> V) {
    match new {
        None => {}
        Some(Limit::Unlimited) => *old = None,
        Some(Limit::At(limit)) => *old = Some(value(limit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_sets_lifts_or_leaves() {
        let mut limits = Limits { memory: Some(1), pids: Some(2), disk: Some(3), ..Limits::default() };
        let layer =
            LimitChanges { memory: Some(Limit::At(Size(9))), pids: Some(Limit::Unlimited), ..LimitChanges::default() };
        layer.lay_over(&mut limits);
        assert_eq!((limits.memory, limits.pids, limits.disk), (Some(9), None, Some(3)));
    }
}
