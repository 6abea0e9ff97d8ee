//! What does compiling cost?
//!
//! `gcc` over four small files: processes, searches for headers, and work that no sandbox sees.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;

use super::super::{Granted, Question};

pub(in super::super) const QUESTION: Question =
    super::question("compile", "`gcc -c`, four small files", ask, Some(prepare));

const FILES: usize = 4;

fn source(granted: &Granted, number: usize) -> PathBuf {
    granted.path().join(format!("source-{number}.c"))
}

fn prepare(granted: &Granted) -> io::Result<()> {
    (0..FILES).try_for_each(|number| {
        let text = format!(
            "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n\
             int work_{number}(const char *name) {{ printf(\"%s %zu\\n\", name, strlen(name)); return getpid(); }}\n"
        );
        fs::write(source(granted, number), text)
    })
}

fn ask(granted: &Granted, times: u64) -> io::Result<f64> {
    // Not every subject may write to the granted directory, and all have a /tmp.
    let objects = std::env::temp_dir().join(format!("sentry-bench-{}", std::process::id()));
    fs::create_dir(&objects)?;
    let mut command = Command::new("gcc");
    command.current_dir(&objects).arg("-c").args((0..FILES).map(|number| source(granted, number)));
    let made = || (0..FILES).all(|number| objects.join(format!("source-{number}.o")).exists());
    let answer = super::time(times, &mut command, |_| made());
    fs::remove_dir_all(&objects)?;
    answer
}
