//! A comparison in plain text.

use std::fmt;

use super::{Change, Comparison, Line};
use crate::targets::Scale;

impl fmt::Display for Comparison {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            writeln!(to, "warning: {warning}")?;
        }
        writeln!(
            to,
            "{}: {} lines, from the run of {} to that of {}",
            self.study,
            self.lines.len(),
            self.old,
            self.new
        )?;
        let told = [
            (Change::Broke, "does not work any more"),
            (Change::Slower, "costs more"),
            (Change::Faster, "costs less"),
            (Change::Works, "works now"),
            (Change::Unclear, "not clear, moved but not beyond noise"),
        ];
        for (change, heading) in told {
            let mut lines = self.of(change).peekable();
            if lines.peek().is_some() {
                writeln!(to, "{heading}:")?;
            }
            lines.try_for_each(|line| writeln!(to, "  {line}"))?;
        }
        writeln!(to, "the same: {}", self.of(Change::Same).count())
    }
}

impl fmt::Display for Line {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = if self.basis == "ratio" { Scale::Times } else { Scale::Amount(self.unit) };
        let of = if self.basis == "ratio" { " native" } else { "" };
        write!(to, "{}, {}: ", self.subject, self.asks)?;
        match (self.old, self.new, self.by) {
            (Some(old), Some(new), Some(by)) => write!(
                to,
                "{} then, {} now{of}: {:.2} times as much ({:.2} to {:.2})",
                scale.pretty(old.median),
                scale.pretty(new.median),
                by.median,
                by.low,
                by.high
            ),
            _ => to.write_str(self.why.as_deref().unwrap_or("no answer")),
        }
    }
}
