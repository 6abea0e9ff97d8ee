//! A program's view of the real time: its private copy of the vDSO, vdso(7).
//!
//! Programs read the clock without a system call, in code that the kernel maps into each of them. So a pretended clock
//! needs other code there. Nothing of the kernel's code is changed or moved: the symbol table of the copy is made to point
//! at functions of ours in the padding behind the image ([`stub`]), which call the kernel's and adjust the answer by a page
//! that all programs of the sandbox share ([`syscalls::clock::page`]). Nobody has looked a symbol up yet when that is done.
//!
//! Where there is no room, or no code for the architecture, the entries become plain system calls, which the filter traps.

mod elf;
mod stub;
#[allow(unsafe_code)]
pub mod trace;

use std::ops::Range;

use syscalls::clock::page;

pub use stub::Entry;

/// Bytes to put at an offset of the vDSO.
pub type Edit = (usize, Vec<u8>);

/// What is done to the vDSO of each program, decided once for the running kernel.
#[derive(Clone, Debug)]
pub struct Patch {
    /// What makes the symbols lead to code that adjusts the answer; empty if that cannot be had here.
    adjusting: Vec<Edit>,
    /// What makes them lead to plain system calls.
    plain: Vec<Edit>,
    /// What makes the vDSO's own functions plain system calls, for programs that may have looked symbols up already.
    late: Vec<Edit>,
    /// Where a program begins, and where its own two words are.
    begin: usize,
    own: usize,
    /// Where the vDSO's own code makes system calls: the addresses behind them.
    calls: Vec<usize>,
    /// What the kernel has where one patch or another changes something.
    witnesses: Vec<Edit>,
    length: usize,
}

impl Patch {
    /// Reads the vDSO of this very process, and decides. `None` if it has none that could tell the time.
    pub fn new() -> Option<Self> {
        let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
        let place = Place::find(&maps)?;
        Self::of_image(&trace::own_memory(place.vdso.clone())?)
    }

    fn of_image(image: &[u8]) -> Option<Self> {
        let elf = elf::Image::parse(image)?;
        let mut symbols = Vec::new();
        for (name, entry) in stub::SYMBOLS {
            if let Some(symbol) = elf.function(name) {
                symbols.push((symbol, entry));
            }
        }
        let late = own_functions(&symbols)?;
        let (value_at, function) = (symbols.first()?.0.value_at, late.first()?);
        let kernels = |offset: usize, length: usize| Some((offset, image.get(offset..offset + length)?.to_vec()));
        let mut patch = Self {
            adjusting: Vec::new(),
            plain: late.clone(),
            witnesses: vec![kernels(value_at, 8)?, kernels(function.0, function.1.len())?],
            late,
            begin: 0,
            own: 0,
            calls: elf.code_places(stub::SYSTEM_CALL).map(|place| place + stub::SYSTEM_CALL.len()).collect(),
            length: image.len(),
        };
        let address = |wanted| symbols.iter().find(|(_, entry)| *entry == wanted).map(|(symbol, _)| symbol.address);
        let at = elf.free().start;
        let code = address(Entry::ClockGettime)
            .zip(address(Entry::Gettimeofday))
            .and_then(|(gettime, timeofday)| stub::Code::linked(at, gettime, timeofday))
            .filter(|code| code.bytes.len() <= elf.free().len());
        if let Some(code) = code {
            let edits = |entries: [usize; 3]| {
                // Without what is each program's own.
                let mut edits = vec![(at, code.bytes.get(..code.own).unwrap_or_default().to_vec())];
                // The symbols are near one another: one piece is written sooner than many.
                let values = symbols.iter().map(|(symbol, _)| symbol.value_at);
                let (first, last) = (values.clone().min()?, values.max()?);
                let mut table = image.get(first..last + 8)?.to_vec();
                for (symbol, entry) in &symbols {
                    let to = at + entries[*entry as usize];
                    let place = symbol.value_at - first;
                    table.get_mut(place..place + 8)?.copy_from_slice(&to.to_le_bytes());
                }
                edits.push((first, table));
                Some(edits)
            };
            (patch.adjusting, patch.plain) = (edits(code.adjusting)?, edits(code.plain)?);
            (patch.begin, patch.own) = (at + code.begin, at + code.own);
        }
        Some(patch)
    }

    /// Whether programs read the pretended clock without a system call.
    pub fn adjusts(&self) -> bool {
        !self.adjusting.is_empty()
    }

    /// What the vDSO of a program needs whose clock page will be mapped at `page`, and which the kernel would start at
    /// `entry`; all offsets count from the vDSO. And where it must begin instead.
    fn for_program(&self, page: usize, entry: usize) -> (Vec<Edit>, usize) {
        let mut edits = self.adjusting.clone();
        edits.push((self.own, [page.to_le_bytes(), entry.to_le_bytes()].concat()));
        (edits, self.begin)
    }

    /// What makes the vDSO of a program tell the time by system calls: of one that has looked up nothing yet, or of one
    /// that may have.
    pub fn plain(&self, may_have_looked: bool) -> &[Edit] {
        if may_have_looked { &self.late } else { &self.plain }
    }

    /// Bytes that are the kernel's own as long as nothing was patched: where they are, and what they are then.
    pub fn witnesses(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.witnesses.iter().map(|(offset, bytes)| (*offset, bytes.as_slice()))
    }

    /// Whether a system call behind whose instruction is the address `ip` may have been made by the kernel's own code in
    /// a vDSO, whose caller adjusts the answer: then its address must be looked at, for only the place in its page counts
    /// here.
    pub fn may_be_called_from(&self, ip: u64) -> bool {
        self.adjusts() && self.calls.iter().any(|call| (*call as u64 ^ ip).is_multiple_of(page::SIZE as u64))
    }

    /// Whether it was, in a vDSO at `vdso`.
    pub fn called_from(&self, vdso: u64, ip: u64) -> bool {
        self.calls.iter().any(|call| vdso.wrapping_add(*call as u64) == ip)
    }
}

/// Makes each function a system call; all are longer than that.
fn own_functions(symbols: &[(elf::Symbol, Entry)]) -> Option<Vec<Edit>> {
    let whole = |(symbol, entry): &(elf::Symbol, Entry)| {
        let bytes = stub::system_call(*entry);
        (symbol.size >= bytes.len()).then_some((symbol.address, bytes))
    };
    symbols.iter().map(whole).collect()
}

/// Where the vDSO of a program is, and where its clock page can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The vDSO's code.
    pub vdso: Range<usize>,
    /// A free page near it.
    pub page: usize,
}

impl Place {
    /// Looks through `/proc/PID/maps`, see proc_pid_maps(5).
    pub fn find(maps: &str) -> Option<Self> {
        let (mut vdso, mut stack) = (None, None);
        let mut taken = Vec::new();
        for line in maps.lines() {
            let (range, rest) = line.split_once(' ')?;
            let (start, end) = range.split_once('-')?;
            let hex = |text| usize::from_str_radix(text, 16).ok();
            let range = hex(start)?..hex(end)?;
            if rest.ends_with(" [vdso]") {
                vdso = Some(range.clone());
            } else if rest.ends_with(" [stack]") {
                stack = Some(range.clone());
            }
            taken.push(range);
        }
        let vdso = vdso?;
        // Below the vDSO lie the kernel's pages for it, and perhaps more. The first gap beneath serves, but for the one into
        // which the stack grows.
        let mut below = vdso.start;
        while let Some(range) = taken.iter().find(|range| range.end == below) {
            below = range.start;
        }
        if stack.is_some_and(|stack| stack.start == below) {
            let mut above = vdso.end;
            while let Some(range) = taken.iter().find(|range| range.start == above) {
                above = range.end;
            }
            return Some(Self { vdso, page: above });
        }
        let page = below.checked_sub(page::SIZE)?;
        Some(Self { vdso, page })
    }
}

#[cfg(test)]
mod tests;
