//! Changes as text for a person: a line each, with sizes, or with the lines of text that differ.
//!
//! Names and contents come from the guest: both are escaped, so that none can move the cursor or look like a line of ours.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use similar::{ChangeTag, TextDiff};

use super::layer::Layer;
use super::obeyed::Obeyed;
use super::root::Root;
use super::{Change, Kind, Object, Type, pretended};
use crate::report::{escape, name};

/// How much of a file is compared line by line.
const MOST: u64 = 4 << 20;

/// And how many lines: the work grows with their square.
const LINES: usize = 50_000;

/// How long to compare the files of one copy, all together.
const PATIENCE: Duration = Duration::from_secs(15);

/// How much to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A line for each change.
    Names,
    /// And how many lines or bytes.
    Stat,
    /// And which lines.
    Patch,
}

/// One line about `change`.
pub fn line(layer: &Layer, change: &Change, obeyed: &Obeyed) -> String {
    let name = name(&layer.host_path.join(&change.path));
    let directory = change.after.as_ref().or(change.before.as_ref()).is_some_and(Object::is_directory);
    let slash = if directory { "/" } else { "" };
    let mut line = format!("{:7}  {name}{slash}", change.kind.word());
    if change.within > 0 {
        line.push_str(&format!(" with {} more", change.within));
    }
    let detail = detail(layer, change);
    if !detail.is_empty() {
        line.push_str(&format!("  ({detail})"));
    }
    if obeyed.root(change).is_some() {
        line.push_str(&format!("  ({})", super::obeyed::WORDS));
    }
    line
}

/// What is different, attributes included.
pub fn detail(layer: &Layer, change: &Change) -> String {
    let mut words = Vec::from_iter(Some(change.detail()).filter(|detail| !detail.is_empty()));
    let of = |root: &Root, object: &Option<Object>| {
        let open = match object.as_ref().map(|object| object.kind) {
            Some(Type::File) => root.read(&change.path).ok(),
            Some(Type::Directory) => root.list(&change.path).ok(),
            _ => None,
        };
        open.and_then(|open| super::copy::attributes(open.as_fd()).ok()).unwrap_or_default()
    };
    if change.before.is_some() && !change.attributes {
        return words.join(", ");
    }
    let (mut before, mut after) = (of(&layer.host, &change.before), of(&layer.copy, &change.after));
    let (said_before, said) = (pretended::take(&mut before), pretended::take(&mut after));
    if change.before.is_some() {
        words.extend((before != after).then(|| "attributes".to_owned()));
    } else {
        let lists = after.keys().filter(|name| name.to_bytes().starts_with(b"system.posix_acl_")).count();
        words.extend((lists > 0).then(|| "access list".to_owned()));
        words.extend((after.len() > lists).then(|| "attributes".to_owned()));
    }
    words.extend(pretended::words(said_before.as_ref(), said.as_ref()));
    words.join(", ")
}

/// Writes all of `changes` in `style`.
pub fn write(layer: &Layer, changes: &[Change], style: Style, out: &mut dyn Write) -> std::io::Result<()> {
    let obeyed = Obeyed::new(layer, changes);
    let end = Instant::now() + PATIENCE;
    for change in changes {
        let line = line(layer, change, &obeyed);
        match style {
            Style::Names => writeln!(out, "{line}")?,
            Style::Stat => match compare(layer, change, end) {
                Compared::Text { removed, added, .. } => writeln!(out, "{line}  +{added} -{removed}")?,
                Compared::Sizes(before, after) => writeln!(out, "{line}  {before} to {after} bytes")?,
                Compared::Nothing => writeln!(out, "{line}")?,
            },
            Style::Patch => {
                writeln!(out, "{line}")?;
                match compare(layer, change, end) {
                    Compared::Text { hunks, .. } => {
                        let name = name(&change.path);
                        let side =
                            |there: bool, side| if there { format!("{side}/{name}") } else { "/dev/null".into() };
                        let is_file =
                            |object: &Option<Object>| object.as_ref().is_some_and(|object| object.kind == Type::File);
                        if !hunks.is_empty() {
                            writeln!(out, "--- {}", side(is_file(&change.before), "a"))?;
                            writeln!(out, "+++ {}", side(is_file(&change.after), "b"))?;
                            out.write_all(hunks.as_bytes())?;
                        }
                    }
                    Compared::Sizes(before, after) => {
                        writeln!(out, "    not text, or too large to compare here: {before} to {after} bytes")?;
                    }
                    Compared::Nothing => {}
                }
            }
        }
    }
    Ok(())
}

/// What two contents have to do with each other.
enum Compared {
    /// Both are text.
    Text { hunks: String, removed: usize, added: usize },
    /// At least one is not, or is too large.
    Sizes(u64, u64),
    /// There are no contents.
    Nothing,
}

fn compare(layer: &Layer, change: &Change, end: Instant) -> Compared {
    let file = |object: &Option<Object>| object.clone().filter(|object| object.kind == Type::File);
    let (before, after) = (file(&change.before), file(&change.after));
    if before.is_none() && after.is_none() {
        return Compared::Nothing;
    }
    let size = |object: &Option<Object>| object.as_ref().map_or(0, |object| object.size);
    let sizes = Compared::Sizes(size(&before), size(&after));
    let text = |object: &Option<Object>, root: &super::root::Root| match object {
        None => Some(String::new()),
        Some(object) if object.size > MOST => None,
        Some(_) => {
            let open = std::fs::File::from(root.read(&change.path).ok()?);
            let mut bytes = Vec::new();
            // One byte more than allowed tells of a file that grew.
            open.take(MOST + 1).read_to_end(&mut bytes).ok()?;
            let lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
            let text = bytes.len() as u64 <= MOST && lines <= LINES && !bytes.contains(&0);
            // A byte that is not UTF-8 must not hide the rest.
            text.then(|| String::from_utf8_lossy(&bytes).into_owned())
        }
    };
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return sizes;
    }
    let (Some(old), Some(new)) = (text(&before, &layer.host), text(&after, &layer.copy)) else { return sizes };
    let each = left.min(Duration::from_secs(2));
    let diff = TextDiff::configure().timeout(each).diff_lines(old.as_str(), new.as_str());
    let (mut hunks, mut removed, mut added) = (String::new(), 0, 0);
    for hunk in diff.unified_diff().context_radius(3).iter_hunks() {
        hunks.push_str(&format!("{}\n", hunk.header()));
        for line in hunk.iter_changes() {
            let sign = match line.tag() {
                ChangeTag::Equal => ' ',
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
            };
            removed += usize::from(sign == '-');
            added += usize::from(sign == '+');
            let value: &str = line.value();
            hunks.push(sign);
            hunks.push_str(&harmless(value.strip_suffix('\n').unwrap_or(value)));
            hunks.push('\n');
            if !value.ends_with('\n') {
                hunks.push_str("\\ No newline at end of file\n");
            }
        }
    }
    Compared::Text { hunks, removed, added }
}

/// A line of text, with its tabs.
fn harmless(line: &str) -> String {
    line.split('\t').map(escape).collect::<Vec<_>>().join("\t")
}

/// How many of each kind, in words.
pub fn counts(changes: &[Change]) -> String {
    let of = |kind| changes.iter().filter(|change| change.kind == kind).count();
    let parts = [Kind::Deleted, Kind::Changed, Kind::New].map(|kind| (of(kind), kind.word()));
    let parts: Vec<String> =
        parts.into_iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    if parts.is_empty() { "no changes".to_owned() } else { parts.join(", ") }
}
