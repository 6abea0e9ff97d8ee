//! What does packing and unpacking a tree cost?
//!
//! `tar` over 2000 small files: names, contents and attributes of each, read one after the other, or made one after the
//! other. Making files is where copies on write and judged names cost most.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::{Granted, Question, When};
use crate::stopwatch::Stint;

pub(in super::super) const PACK: Question =
    Question::program("tar", "`tar -c`, 2000 files", &["tar"], pack).prepared(prepare);

pub(in super::super) const UNPACK: Question =
    Question::program("untar", "`tar -x`, 2000 files", &["tar"], unpack).only(When::Full);

const DIRECTORIES: usize = 40;
const FILES_EACH: usize = 50;
const BYTES: usize = 1500;

fn tree(granted: &Granted) -> PathBuf {
    granted.path().join("tree")
}

fn archive(granted: &Granted) -> PathBuf {
    granted.path().join("tree.tar")
}

fn prepare(granted: &Granted) -> io::Result<()> {
    let tree = tree(granted);
    for number in 0..DIRECTORIES {
        let directory = tree.join(format!("directory-{number:02}"));
        fs::create_dir_all(&directory)?;
        for file in 0..FILES_EACH {
            let text = format!("{number} {file} ").repeat(BYTES / 4);
            fs::write(directory.join(format!("file-{file:02}")), &text.as_bytes()[..BYTES])?;
        }
    }
    make(&tree, &archive(granted))
}

fn make(tree: &Path, archive: &Path) -> io::Result<()> {
    let mut tar = super::program("tar");
    super::output(tar.arg("-cf").arg(archive).arg("-C").arg(tree).arg(".")).map(drop)
}

fn pack(granted: &Granted, stint: Stint) -> io::Result<f64> {
    let (tree, work) = (tree(granted), super::Work::new(granted)?);
    stint.per_run(|| {
        let archive = work.fresh();
        make(&tree, &archive)?;
        super::did(fs::metadata(archive)?.len() > (DIRECTORIES * FILES_EACH * BYTES) as u64, "tar")
    })
}

fn unpack(granted: &Granted, stint: Stint) -> io::Result<f64> {
    let (archive, work) = (archive(granted), super::Work::new(granted)?);
    stint.per_run(|| {
        let to = work.fresh();
        fs::create_dir(&to)?;
        super::output(super::program("tar").arg("-xf").arg(&archive).arg("-C").arg(&to))?;
        let last = to.join(format!("directory-{:02}/file-{:02}", DIRECTORIES - 1, FILES_EACH - 1));
        super::did(fs::metadata(last)?.len() == BYTES as u64, "tar")
    })
}
