//! What does it cost that two processes wait for each other?
//!
//! A byte goes to a child through one pipe and comes back through another: four calls and two switches. It is also what a
//! supervisor in another process costs at least, when every call has to be carried to it and back.

use std::fs::File;
use std::io::{self, Read, Write};

use super::{Granted, Question};
use crate::stopwatch::Stint;
use crate::sys::fork_echo;

pub(super) const QUESTION: Question = Question::call("pipe", "a byte to another process and back, by pipes", 9000, ask);

fn ask(_: &Granted, stint: Stint) -> io::Result<f64> {
    let (mut to, mut from, child) = fork_echo()?;
    let answer = stint.per_operation(|| there_and_back(&mut to, &mut from));
    // The child ends when nobody can write to it any more.
    drop((to, from));
    child.end()?;
    answer
}

fn there_and_back(to: &mut File, from: &mut File) -> io::Result<()> {
    let mut byte = [7];
    to.write_all(&byte)?;
    from.read_exact(&mut byte)?;
    if byte == [7] { Ok(()) } else { Err(io::Error::other("another byte came back")) }
}
