//! `pause` and `resume`.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use shim::failure::{Failure, Step};

use super::{Groups, read, write};

/// A process in an uninterruptible sleep is not frozen before it wakes.
const LONGEST: Duration = Duration::from_secs(10);

enum Freezer<'a> {
    Legacy(&'a Path),
    Unified(&'a Path),
}

impl Groups {
    fn freezer(&self) -> Result<Freezer<'_>, Failure> {
        if let Some(group) = self.legacy("freezer") {
            return Ok(Freezer::Legacy(group));
        }
        match self.unified() {
            Some(group) if group.join("cgroup.freeze").exists() => Ok(Freezer::Unified(group)),
            _ => {
                let why = self.missing.as_deref().unwrap_or("no hierarchy can freeze");
                Err(Failure::check(format!("pause the container: {why}"))
                    .remedy("it takes a control group: as root, or delegated to the user"))
            }
        }
    }

    /// Whether the container is paused.
    pub fn is_frozen(&self) -> bool {
        match self.freezer() {
            Ok(Freezer::Legacy(group)) => read(&group.join("freezer.state")).is_ok_and(|state| state != "THAWED"),
            Ok(Freezer::Unified(group)) => read(&group.join("cgroup.freeze")).is_ok_and(|state| state == "1"),
            Err(_) => false,
        }
    }

    /// Stops every process of the container where it is.
    pub fn freeze(&self) -> Result<(), Failure> {
        self.change(true)
    }

    /// Lets them go on.
    pub fn thaw(&self) -> Result<(), Failure> {
        self.change(false)
    }

    fn change(&self, freeze: bool) -> Result<(), Failure> {
        let what = if freeze { "pause" } else { "resume" };
        let step = || format!("{what} the container");
        let freezer = self.freezer()?;
        let begun = Instant::now();
        loop {
            if freezer.write(freeze).and_then(|()| freezer.has(freeze)).step(step)? {
                return Ok(());
            }
            if begun.elapsed() > LONGEST {
                // Half of a container is not left frozen.
                if freeze {
                    let _ = freezer.write(false);
                }
                return Err(Failure::new(step(), Errno::ETIMEDOUT));
            }
            sleep(Duration::from_millis(2));
        }
    }
}

impl Freezer<'_> {
    fn write(&self, freeze: bool) -> Result<(), Errno> {
        match self {
            // Written again while it is still FREEZING: what was forked meanwhile is caught then.
            Self::Legacy(group) => write(&group.join("freezer.state"), if freeze { "FROZEN" } else { "THAWED" }),
            Self::Unified(group) => write(&group.join("cgroup.freeze"), if freeze { "1" } else { "0" }),
        }
    }

    fn has(&self, frozen: bool) -> Result<bool, Errno> {
        match self {
            Self::Legacy(group) => Ok(read(&group.join("freezer.state"))? == if frozen { "FROZEN" } else { "THAWED" }),
            Self::Unified(group) => {
                let events = read(&group.join("cgroup.events"))?;
                let line = if frozen { "frozen 1" } else { "frozen 0" };
                // An empty group is never said to be frozen.
                Ok(events.lines().any(|event| event == line) || events.lines().any(|event| event == "populated 0"))
            }
        }
    }
}
