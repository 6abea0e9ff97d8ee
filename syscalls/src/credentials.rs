//! Who a task pretends to be (`--fake-root`): the ids, groups and capabilities of credentials(7), as state of the sentry.
//!
//! For the kernel every task of such a sandbox has one user and one group, and none of the changes below reaches it. They
//! are what a program reads back, what files that it makes are said to belong to, and what it is told it may not do. They
//! are no boundary: the kernel's own answer, for the one real user, always comes on top.

/// What Linux calls "every capability": as many bits as the kernel's last one (`CAP_CHECKPOINT_RESTORE`).
pub const EVERY_CAPABILITY: u64 = (1 << 41) - 1;

/// The four ids of a kind: of users, or of groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ids {
    /// Who started it.
    pub real: u32,
    /// As whom it acts.
    pub effective: u32,
    /// As whom it may act again.
    pub saved: u32,
    /// As whom it uses files; follows the effective id.
    pub file: u32,
}

/// One task's pretended credentials. They start as root's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// Users.
    pub user: Ids,
    /// Groups.
    pub group: Ids,
    /// Supplementary groups, sorted as the kernel sorts them.
    pub groups: Vec<u32>,
    /// Capabilities in use.
    pub effective: u64,
    /// Capabilities that may be used.
    pub permitted: u64,
    /// Capabilities that programs with file capabilities may inherit.
    pub inheritable: u64,
    /// Capabilities that programs without file capabilities inherit.
    pub ambient: u64,
    /// Capabilities that can ever be gained.
    pub bounding: u64,
    /// `PR_SET_SECUREBITS`, `PR_SET_KEEPCAPS` among them.
    pub secure_bits: u32,
}

impl Default for Credentials {
    fn default() -> Self {
        Self {
            user: Ids::default(),
            group: Ids::default(),
            groups: Vec::new(),
            effective: EVERY_CAPABILITY,
            permitted: EVERY_CAPABILITY,
            inheritable: 0,
            ambient: 0,
            bounding: EVERY_CAPABILITY,
            secure_bits: 0,
        }
    }
}

impl Credentials {
    /// Whether the capability with this number is in use.
    pub fn can(&self, capability: u32) -> bool {
        self.effective & (1 << capability) != 0
    }

    /// Whether files of `group` are those of one of its groups.
    pub fn is_in(&self, group: u32) -> bool {
        self.group.file == group || self.groups.contains(&group)
    }
}
