//! What does compiling cost?
//!
//! `gcc` over twenty small files: processes, searches for headers, and work that no sandbox sees.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::super::{Granted, Question, When};
use crate::stopwatch::Stint;

pub(in super::super) const QUESTION: Question =
    Question::program("compile", "`gcc -c`, 20 small files", &["gcc", "as"], ask).prepared(prepare).only(When::Full);

const FILES: usize = 20;

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

fn ask(granted: &Granted, stint: Stint) -> io::Result<f64> {
    let objects = super::Work::new(granted)?;
    let mut gcc = super::program("gcc");
    gcc.current_dir(objects.path()).arg("-c").args((0..FILES).map(|number| source(granted, number)));
    let made = || (0..FILES).all(|number| objects.path().join(format!("source-{number}.o")).exists());
    super::time(stint, &mut gcc, |_| made())
}
