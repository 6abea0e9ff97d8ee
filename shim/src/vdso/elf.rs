//! As much of the ELF format as a vDSO needs: elf(5).

use std::ops::Range;

/// One vDSO, as it lies in memory from its first byte to the end of its last page.
pub struct Image<'a> {
    bytes: &'a [u8],
    symbols: Range<usize>,
    strings: Range<usize>,
    code: Range<usize>,
    end: usize,
}

/// A function of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Where the function is.
    pub address: usize,
    /// How long it is.
    pub size: usize,
    /// Where in the image its address is written.
    pub value_at: usize,
}

const SYMBOL: usize = 24;
const FUNCTION: u8 = 2;

impl<'a> Image<'a> {
    /// `None` for whatever is not a 64-bit shared object of this byte order with one loaded segment and a symbol table.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.get(..6)? != [0x7F, b'E', b'L', b'F', 2, 1] {
            return None;
        }
        let (mut load, mut dynamic) = (None, None);
        let count = half(bytes, 56)?;
        for index in 0..count {
            let at = word(bytes, 32)? + index * half(bytes, 54)?;
            let (kind, flags) = (quarter(bytes, at)?, quarter(bytes, at + 4)?);
            let range = word(bytes, at + 8)?..word(bytes, at + 8)?.checked_add(word(bytes, at + 32)?)?;
            let in_place = word(bytes, at + 8)? == word(bytes, at + 16)?;
            match kind {
                1 if load.is_none() && in_place && flags & 1 != 0 && range.end <= bytes.len() => load = Some(range),
                1 => return None,
                2 if in_place => dynamic = Some(range),
                _ => {}
            }
        }
        let (load, dynamic) = (load?, dynamic?);
        let tag = |wanted: usize| {
            let entries = bytes.get(dynamic.clone())?.chunks_exact(16);
            entries.filter_map(|entry| Some((word(entry, 0)?, word(entry, 8)?))).find(|(tag, _)| *tag == wanted)
        };
        let (symbols, strings) = (tag(6)?.1, tag(5)?.1);
        let strings = strings..strings.checked_add(tag(10)?.1)?;
        // The table's length stands in no tag; it has as many entries as the hash table has chains, and the section
        // header says so too.
        let count = match tag(4) {
            Some((_, hash)) => quarter(bytes, hash + 4)?,
            None => section(bytes, 11, symbols)? / SYMBOL,
        };
        let symbols = symbols..symbols.checked_add(count.checked_mul(SYMBOL)?)?;
        if symbols.end > load.end || strings.end > load.end {
            return None;
        }
        // Section headers and what they describe are not loaded, but they are there, and debuggers read them.
        let mut end = load.end;
        let (sections, size, number) = (word(bytes, 40)?, half(bytes, 58)?, half(bytes, 60)?);
        end = end.max(sections + size * number);
        for index in 0..number {
            let at = sections + index * size;
            if quarter(bytes, at + 4)? != 8 {
                end = end.max(word(bytes, at + 24)?.checked_add(word(bytes, at + 32)?)?);
            }
        }
        Some(Self { bytes, symbols, strings, code: load, end })
    }

    /// The function called `name`, if the image defines it.
    pub fn function(&self, name: &str) -> Option<Symbol> {
        let strings = self.bytes.get(self.strings.clone())?;
        for at in self.symbols.clone().step_by(SYMBOL) {
            let symbol = self.bytes.get(at..at + SYMBOL)?;
            let name_at = quarter(symbol, 0)?;
            let is = strings.get(name_at..)?.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0));
            let (address, size) = (word(symbol, 8)?, word(symbol, 16)?);
            let whole = self.code.contains(&address) && address.checked_add(size)? <= self.code.end;
            if is && symbol[4] & 0xF == FUNCTION && half(symbol, 6)? != 0 && whole {
                return Some(Symbol { address, size, value_at: at + 8 });
            }
        }
        None
    }

    /// Where these bytes are in the loaded part.
    pub fn code_places(&self, wanted: &'a [u8]) -> impl Iterator<Item = usize> + '_ {
        let code = self.bytes.get(self.code.clone()).unwrap_or_default();
        let found = code.windows(wanted.len()).enumerate().filter(move |(_, window)| *window == wanted);
        found.map(|(place, _)| self.code.start + place)
    }

    /// The room behind everything, which nothing uses: the padding of the last page, all of it zero.
    pub fn free(&self) -> Range<usize> {
        let used = self.bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        used.max(self.end).next_multiple_of(64).min(self.bytes.len())..self.bytes.len()
    }
}

/// The length of the section of this `kind` at `address`.
fn section(bytes: &[u8], kind: usize, address: usize) -> Option<usize> {
    let (sections, size, number) = (word(bytes, 40)?, half(bytes, 58)?, half(bytes, 60)?);
    let mut found = (0..number).map(|index| sections + index * size);
    let at = found.find(|at| quarter(bytes, at + 4) == Some(kind) && word(bytes, at + 16) == Some(address))?;
    word(bytes, at + 32)
}

fn half(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_le_bytes).map(usize::from)
}

fn quarter(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)?).ok()
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(bytes.get(at..at.checked_add(8)?)?.try_into().ok().map(u64::from_le_bytes)?).ok()
}
