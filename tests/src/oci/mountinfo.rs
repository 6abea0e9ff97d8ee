//! The kernel's table of mounts, as proc(5) has it.

/// One line of `mountinfo`.
#[derive(Clone, Debug)]
pub struct Mount {
    /// The directory of the file system that is seen.
    pub root: String,
    /// Where it is seen.
    pub point: String,
    /// The options of the mount, and of its file system.
    pub options: Vec<String>,
    /// The propagation: `shared:N`, `master:N`, `unbindable`.
    pub propagation: Vec<String>,
    /// The type of the file system.
    pub kind: String,
    /// The options of the file system only.
    pub inner: Vec<String>,
}

impl Mount {
    /// Whether an option is set, on the mount or on its file system.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().chain(&self.inner).any(|known| known == option)
    }
}

/// Reads a table of mounts.
pub fn mounts(table: &str) -> Vec<Mount> {
    table.lines().filter_map(line).collect()
}

/// The mount that is seen at a path: the last one there.
pub fn mount_at(table: &str, point: &str) -> Option<Mount> {
    mounts(table).into_iter().rfind(|mount| mount.point == point)
}

fn line(text: &str) -> Option<Mount> {
    let list = |text: &str| text.split(',').map(str::to_owned).collect();
    let (own, behind) = text.split_once(" - ")?;
    let mut fields = own.split(' ').skip(3);
    let (root, point, options) = (fields.next()?, fields.next()?, fields.next()?);
    let mut behind = behind.split(' ');
    Some(Mount {
        root: root.to_owned(),
        point: point.to_owned(),
        options: list(options),
        propagation: fields.map(str::to_owned).collect(),
        kind: behind.next()?.to_owned(),
        inner: list(behind.nth(1)?),
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_last_mount_at_a_point_is_what_is_seen() {
        let table =
            "1 0 0:1 / /x rw,nosuid shared:1 master:2 - tmpfs none rw,size=1k\n2 1 0:2 /a /x ro - ext4 /dev/vda rw\n";
        let seen = super::mount_at(table, "/x").expect("a mount");
        assert_eq!((seen.kind.as_str(), seen.root.as_str(), seen.has("ro")), ("ext4", "/a", true));
        assert_eq!(super::mounts(table)[0].propagation, ["shared:1", "master:2"]);
        assert!(super::mounts(table)[0].has("size=1k"));
    }
}
