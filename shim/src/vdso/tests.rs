use super::*;

fn image() -> Vec<u8> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("our own");
    let place = Place::find(&maps).expect("this kernel has a vDSO");
    trace::own_memory(place.vdso).expect("mapped")
}

fn apply(image: &mut [u8], edits: &[Edit]) {
    for (offset, bytes) in edits {
        image[*offset..offset + bytes.len()].copy_from_slice(bytes);
    }
}

#[test]
fn a_place_is_found_below_all_that_belongs_to_the_vdso() {
    let maps = "\
7f0000000000-7f0000001000 r--p 00000000 00:00 0                          [vvar]
7f0000001000-7f0000002000 r--p 00000000 00:00 0                          [vvar_vclock]
7f0000002000-7f0000004000 r-xp 00000000 00:00 0                          [vdso]
7ffe348f4000-7ffe34915000 rw-p 00000000 00:00 0                          [stack]
";
    let place = Place::find(maps).expect("a vDSO");
    assert_eq!(place, Place { vdso: 0x7F00_0000_2000..0x7F00_0000_4000, page: 0x7EFF_FFFF_F000 });
    let above_the_stack = "\
7ffe348f4000-7ffe34915000 rw-p 00000000 00:00 0                          [stack]
7ffe34915000-7ffe34917000 r--p 00000000 00:00 0                          [vvar]
7ffe34917000-7ffe34919000 r-xp 00000000 00:00 0                          [vdso]
";
    let place = Place::find(above_the_stack).expect("a vDSO");
    assert_eq!(place.page, 0x7FFE_3491_9000, "the stack may grow");
    assert_eq!(Place::find("00400000-00401000 r-xp 00000000 08:02 1 /tmp/[vdso]x\n"), None);
    assert_eq!(Place::find(""), None);
}

#[test]
fn this_kernels_vdso_can_be_patched() {
    let patch = Patch::new().expect("this kernel's vDSO tells the time");
    let before = image();
    if !patch.adjusts() {
        eprintln!("SKIPPED: the vDSO of this kernel has no room");
        return;
    }
    let (edits, begin) = patch.for_program(0x7000_0000_0000, 0x40_1000);
    let free = elf::Image::parse(&before).expect("it is ELF").free();
    assert!(free.contains(&begin));
    assert!(before[free.clone()].iter().all(|byte| *byte == 0), "nothing is overwritten");

    // Only values of symbols change, and what was padding.
    let mut after = before.clone();
    apply(&mut after, &edits);
    let changed = |at: usize| before[at] != after[at];
    let elf = elf::Image::parse(&before).expect("it is ELF");
    let values: Vec<usize> =
        stub::SYMBOLS.iter().filter_map(|(name, _)| elf.function(name)).map(|symbol| symbol.value_at).collect();
    for at in (0..before.len()).filter(|at| changed(*at)) {
        let a_value = values.iter().any(|value| (*value..value + 8).contains(&at));
        assert!(a_value || free.contains(&at), "{at:#x}");
    }
    // All symbols lead to our code now.
    for value in values {
        let target = usize::from_le_bytes(after[value..value + 8].try_into().expect("eight bytes"));
        assert!(free.contains(&target), "{target:#x}");
    }
    let (page, entry) = (0x7000_0000_0000_usize.to_le_bytes(), 0x40_1000_usize.to_le_bytes());
    assert_eq!(&after[patch.own..patch.own + 16], [page, entry].concat());

    // Becoming plain afterwards leaves a program what is its own, and the witnesses tell every patch.
    apply(&mut after, patch.plain(false));
    assert_eq!(&after[patch.own..patch.own + 16], [page, entry].concat());
    for edits in [edits.as_slice(), patch.plain(false), patch.plain(true)] {
        let mut after = before.clone();
        apply(&mut after, edits);
        assert!(patch.witnesses().any(|(at, kernels)| &after[at..at + kernels.len()] != kernels));
    }
    assert!(patch.witnesses().all(|(at, kernels)| &before[at..at + kernels.len()] == kernels));
}

/// Without room behind the image its functions become system calls.
#[test]
fn a_full_vdso_is_patched_in_its_functions() {
    let mut full = image();
    let free = elf::Image::parse(&full).expect("it is ELF").free();
    full[free].fill(0xCC);
    let patch = Patch::of_image(&full).expect("there is another way");
    assert!(!patch.adjusts());
    assert!(!patch.may_be_called_from(0), "every system call is answered with the pretended time");
    let elf = elf::Image::parse(&full).expect("it is ELF");
    for (name, entry) in stub::SYMBOLS {
        let Some(symbol) = elf.function(name) else { continue };
        let code = stub::system_call(entry);
        assert!(patch.plain(false).contains(&(symbol.address, code)), "{name}");
    }
}

#[test]
fn what_is_no_vdso_is_left_alone() {
    let good = image();
    assert!(Patch::of_image(&[]).is_none());
    assert!(Patch::of_image(&[0; 8192]).is_none());
    // Whatever is broken in the headers, it ends in an answer.
    for at in 0..good.len().min(2048) {
        for value in [0, 0x7F, 0xFF] {
            let mut broken = good.clone();
            broken[at] = value;
            let _ = Patch::of_image(&broken);
        }
    }
    for length in [16, 64, 100, 512, 4096] {
        let _ = Patch::of_image(&good[..length]);
    }
}

#[test]
fn calls_of_the_vdso_itself_are_told_apart() {
    let patch = Patch::new().expect("this kernel's vDSO tells the time");
    if !patch.adjusts() || patch.calls.is_empty() {
        eprintln!("SKIPPED: this vDSO makes no system calls");
        return;
    }
    let vdso = 0x7FFF_1234_5000_u64;
    let call = vdso + patch.calls[0] as u64;
    assert!(patch.may_be_called_from(call) && patch.called_from(vdso, call));
    assert!(!patch.called_from(vdso, call + 1));
    assert!(!patch.called_from(vdso + page::SIZE as u64, call));
}
