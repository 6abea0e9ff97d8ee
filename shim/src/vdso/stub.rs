//! The machine code that is put behind the vDSO's own, as bytes.
//!
//! It is never run here: it is assembled into read-only data, copied into a program's private vDSO, and finds everything
//! relative to itself. What depends on the kernel (where the vDSO's own functions are) is filled in once
//! ([`Code::linked`]), what depends on the program (where its clock page is, where it begins) at each exec.
#![allow(unsafe_code)]

use syscalls::clock::page;

/// The symbols of the vDSO that tell the real time, under both of their names, and which entry stands in for each.
#[cfg(target_arch = "x86_64")]
pub const SYMBOLS: [(&str, Entry); 6] = [
    ("clock_gettime", Entry::ClockGettime),
    ("__vdso_clock_gettime", Entry::ClockGettime),
    ("gettimeofday", Entry::Gettimeofday),
    ("__vdso_gettimeofday", Entry::Gettimeofday),
    ("time", Entry::Time),
    ("__vdso_time", Entry::Time),
];
/// The same of this architecture.
#[cfg(target_arch = "aarch64")]
pub const SYMBOLS: [(&str, Entry); 2] =
    [("__kernel_clock_gettime", Entry::ClockGettime), ("__kernel_gettimeofday", Entry::Gettimeofday)];

/// A function of the vDSO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// `clock_gettime`
    ClockGettime,
    /// `gettimeofday`
    Gettimeofday,
    /// `time`
    Time,
}

/// A function that does nothing but the system call.
pub fn system_call(entry: Entry) -> Vec<u8> {
    #[cfg(target_arch = "x86_64")]
    {
        let number: u8 = match entry {
            Entry::ClockGettime => 228,
            Entry::Gettimeofday => 96,
            Entry::Time => 201,
        };
        // mov eax, number; syscall; ret
        vec![0xB8, number, 0, 0, 0, 0x0F, 0x05, 0xC3]
    }
    #[cfg(target_arch = "aarch64")]
    {
        let number: u32 = match entry {
            Entry::ClockGettime => 113,
            Entry::Gettimeofday | Entry::Time => 169,
        };
        // mov x8, number; svc 0; ret
        [0xD280_0008 | number << 5, 0xD400_0001, 0xD65F_03C0].iter().flat_map(|word: &u32| word.to_le_bytes()).collect()
    }
}

/// What an instruction that makes a system call looks like, for finding those of the vDSO itself.
#[cfg(target_arch = "x86_64")]
pub const SYSTEM_CALL: &[u8] = &[0x0F, 0x05];
/// The same of this architecture.
#[cfg(target_arch = "aarch64")]
pub const SYSTEM_CALL: &[u8] = &[0x01, 0x00, 0x00, 0xD4];

/// The code, ready to be copied to one place of one kernel's vDSO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Where in it the functions begin that adjust the answer: `clock_gettime`, `gettimeofday`, `time`.
    pub adjusting: [usize; 3],
    /// Where the functions begin that only make the system call.
    pub plain: [usize; 3],
    /// Where a program begins, so that it maps its clock page first.
    pub begin: usize,
    /// Where the two words are that each program has of its own: the address of its clock page, and where it would have
    /// begun.
    pub own: usize,
}

/// Stands for the distance to the vDSO's own `clock_gettime` in a jump or call.
#[cfg(target_arch = "x86_64")]
const TO_CLOCK_GETTIME: u32 = 0x5AC1_0C01;
/// Stands for the distance to its own `gettimeofday`.
#[cfg(target_arch = "x86_64")]
const TO_GETTIMEOFDAY: u32 = 0x5AC1_0C02;

impl Code {
    /// The code for a place at `at`, where the vDSO's own `clock_gettime` and `gettimeofday` are at these addresses; all
    /// count from the beginning of the vDSO. `None` where there is no such code for this architecture.
    #[cfg(target_arch = "x86_64")]
    pub fn linked(at: usize, clock_gettime: usize, gettimeofday: usize) -> Option<Self> {
        let (header, code) = assembled().split_at_checked(HEADER * 4)?;
        let mut words = header.chunks_exact(4).filter_map(|word| word.try_into().ok().map(u32::from_le_bytes));
        let mut next = || usize::try_from(words.next()?).ok()?.checked_sub(HEADER * 4);
        let adjusting = [next()?, next()?, next()?];
        let plain = [next()?, next()?, next()?];
        let (begin, own) = (next()?, next()?);
        let mut bytes = code.to_vec();
        for (stands, target) in [(TO_CLOCK_GETTIME, clock_gettime), (TO_GETTIMEOFDAY, gettimeofday)] {
            let mut found = 0;
            for place in 0..bytes.len().checked_sub(4)? {
                if bytes[place..place + 4] == stands.to_le_bytes() {
                    let next = i64::try_from(at + place + 4).ok()?;
                    let distance = i32::try_from(i64::try_from(target).ok()? - next).ok()?;
                    bytes[place..place + 4].copy_from_slice(&distance.to_le_bytes());
                    found += 1;
                }
            }
            if found == 0 {
                return None;
            }
        }
        Some(Self { bytes, adjusting, plain, begin, own })
    }

    /// The same of this architecture: there is none.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn linked(_at: usize, _clock_gettime: usize, _gettimeofday: usize) -> Option<Self> {
        None
    }
}

/// Words before the code: the offsets of its parts.
#[cfg(target_arch = "x86_64")]
const HEADER: usize = 8;

#[cfg(target_arch = "x86_64")]
fn assembled() -> &'static [u8] {
    unsafe extern "C" {
        static sentry_clock_code: u8;
        static sentry_clock_code_end: u8;
    }
    // SAFETY: both labels bound one block of read-only data that the assembler made below.
    unsafe {
        let start = &raw const sentry_clock_code;
        let length = (&raw const sentry_clock_code_end).offset_from_unsigned(start);
        std::slice::from_raw_parts(start, length)
    }
}

// The page is read like a seqlock: a marked or changed sequence number means that somebody sets the clock just now. The
// number is read before the vDSO's own function is called and compared after the last word was read, so that no answer
// mixes an old reading with a new setting.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".pushsection .rodata.sentry_clock_code, \"a\"",
    ".global sentry_clock_code",
    ".global sentry_clock_code_end",
    ".p2align 4",
    "sentry_clock_code:",
    ".long .Lclock_gettime - sentry_clock_code",
    ".long .Lclock_timeofday - sentry_clock_code",
    ".long .Lclock_time - sentry_clock_code",
    ".long .Lclock_plain_gettime - sentry_clock_code",
    ".long .Lclock_plain_timeofday - sentry_clock_code",
    ".long .Lclock_plain_time - sentry_clock_code",
    ".long .Lclock_begin - sentry_clock_code",
    ".long .Lclock_own - sentry_clock_code",
    // int clock_gettime(int clock in edi, struct timespec *time in rsi)
    // First the clock that is read most, with no word more than it needs.
    ".Lclock_gettime:",
    "  test edi, edi",
    "  jne .Lclock_any",
    "  push rbx",
    "  sub rsp, 16",
    "  mov rbx, rsi",
    ".Lclock_real_again:",
    "  mov rax, [rip + .Lclock_own]",
    "  mov eax, [rax + {SEQUENCE}]",
    "  mov [rsp], eax",
    "  test al, {WRITTEN} + {SCALED}",
    "  jnz .Lclock_real_other",
    "  .byte 0xE8", // call the vDSO's own clock_gettime
    "  .long {TO_CLOCK_GETTIME}",
    "  test eax, eax",
    "  js .Lclock_real_return",
    "  mov rcx, [rip + .Lclock_own]",
    "  mov rdx, [rcx + {SECONDS}]",
    "  mov rsi, [rcx + {NANOSECONDS}]",
    "  add [rbx], rdx",
    "  add rsi, [rbx + 8]",
    "  cmp rsi, 1000000000",
    "  jae .Lclock_real_carry",
    ".Lclock_real_store:",
    "  mov [rbx + 8], rsi",
    "  mov edx, [rsp]",
    "  cmp edx, [rcx + {SEQUENCE}]",
    "  jne .Lclock_real_changed",
    ".Lclock_real_return:",
    "  add rsp, 16",
    "  pop rbx",
    "  ret",
    ".Lclock_real_carry:",
    "  sub rsi, 1000000000",
    "  inc qword ptr [rbx]",
    "  jmp .Lclock_real_store",
    ".Lclock_real_changed:",
    "  xor edi, edi",
    "  mov rsi, rbx",
    "  jmp .Lclock_real_again",
    ".Lclock_real_other:",
    "  mov rsi, rbx",
    "  add rsp, 16",
    "  pop rbx",
    ".Lclock_any:",
    "  cmp edi, {TAI}",
    "  ja .Lclock_other",
    "  mov eax, {PRETENDED}",
    "  bt eax, edi",
    "  jc .Lclock_pretended",
    ".Lclock_other:",
    "  .byte 0xE9", // jmp to the vDSO's own clock_gettime
    "  .long {TO_CLOCK_GETTIME}",
    ".Lclock_pretended:",
    "  push rbx",
    "  push rbp",
    "  push rdi",
    "  mov rbp, rsi",
    ".Lclock_again:",
    "  mov rax, [rip + .Lclock_own]",
    "  mov ebx, [rax + {SEQUENCE}]",
    "  test bl, {WRITTEN}",
    "  jnz .Lclock_wait",
    "  mov edi, [rsp]",
    "  mov rsi, rbp",
    "  .byte 0xE8", // call the vDSO's own clock_gettime
    "  .long {TO_CLOCK_GETTIME}",
    "  test eax, eax",
    "  js .Lclock_return",
    "  mov rcx, [rip + .Lclock_own]",
    "  test bl, {SCALED}",
    "  jnz .Lclock_scaled",
    "  mov rdx, [rcx + {SECONDS}]",
    "  mov rsi, [rcx + {NANOSECONDS}]",
    "  mov r8, [rcx + {SET_SECONDS}]",
    "  mov r9, [rcx + {SET_NANOSECONDS}]",
    "  cmp ebx, [rcx + {SEQUENCE}]",
    "  jne .Lclock_again",
    "  add rdx, [rbp]",
    "  add rsi, [rbp + 8]",
    "  cmp rsi, 1000000000",
    "  jb .Lclock_carried",
    "  sub rsi, 1000000000",
    "  inc rdx",
    ".Lclock_carried:",
    "  cmp dword ptr [rsp], {COARSE}",
    "  je .Lclock_coarse",
    ".Lclock_store:",
    "  mov [rbp], rdx",
    "  mov [rbp + 8], rsi",
    "  xor eax, eax",
    ".Lclock_return:",
    "  pop rdi",
    "  pop rbp",
    "  pop rbx",
    "  ret",
    ".Lclock_wait:",
    "  pause",
    "  jmp .Lclock_again",
    // The coarse clock lags by up to a tick: it must not tell a time before the one that was set.
    ".Lclock_coarse:",
    "  cmp rdx, r8",
    "  jg .Lclock_store",
    "  jl .Lclock_lags",
    "  cmp rsi, r9",
    "  jge .Lclock_store",
    ".Lclock_lags:",
    "  mov rdx, r8",
    "  mov rsi, r9",
    "  jmp .Lclock_store",
    // base + (time - host's base) * rate, in nanoseconds; TAI keeps its distance.
    ".Lclock_scaled:",
    "  mov rax, [rbp]",
    "  mov r8, [rcx + {TAI_SECONDS}]",
    "  xor r9d, r9d",
    "  cmp dword ptr [rsp], {TAI}",
    "  cmovne r8, r9",
    "  sub rax, r8",
    "  imul rax, rax, 1000000000",
    "  add rax, [rbp + 8]",
    "  sub rax, [rcx + {HOST_BASE}]",
    "  cmovs rax, r9",
    "  imul qword ptr [rcx + {RATE}]",
    "  shrd rax, rdx, 32",
    "  add rax, [rcx + {BASE}]",
    "  cmp ebx, [rcx + {SEQUENCE}]",
    "  jne .Lclock_again",
    "  xor edx, edx",
    "  mov esi, 1000000000",
    "  div rsi",
    "  mov rsi, rdx",
    "  lea rdx, [rax + r8]",
    "  jmp .Lclock_store",
    // int gettimeofday(struct timeval *time in rdi, struct timezone *zone in rsi)
    ".p2align 4",
    ".Lclock_timeofday:",
    "  test rdi, rdi",
    "  jnz .Lclock_timeofday_asked",
    "  .byte 0xE9", // jmp to the vDSO's own gettimeofday
    "  .long {TO_GETTIMEOFDAY}",
    ".Lclock_timeofday_asked:",
    "  push rbx",
    "  push rbp",
    "  sub rsp, 24",
    "  mov rbx, rdi",
    "  mov rbp, rsi",
    "  xor edi, edi",
    "  mov rsi, rsp",
    "  call .Lclock_gettime",
    "  test eax, eax",
    "  js .Lclock_timeofday_return",
    "  mov rax, [rsp]",
    "  mov [rbx], rax",
    "  mov eax, [rsp + 8]",
    "  imul rax, rax, 274877907", // a thousandth, for what is below 2^30
    "  shr rax, 38",
    "  mov [rbx + 8], rax",
    "  xor eax, eax",
    "  test rbp, rbp",
    "  jz .Lclock_timeofday_return",
    "  xor edi, edi",
    "  mov rsi, rbp",
    "  .byte 0xE8", // call the vDSO's own gettimeofday, for the zone
    "  .long {TO_GETTIMEOFDAY}",
    ".Lclock_timeofday_return:",
    "  add rsp, 24",
    "  pop rbp",
    "  pop rbx",
    "  ret",
    // time_t time(time_t *time in rdi)
    ".p2align 4",
    ".Lclock_time:",
    "  push rbx",
    "  sub rsp, 16",
    "  mov rbx, rdi",
    "  mov edi, {COARSE}",
    "  mov rsi, rsp",
    "  call .Lclock_gettime",
    "  mov rax, [rsp]",
    "  test rbx, rbx",
    "  jz .Lclock_time_return",
    "  mov [rbx], rax",
    ".Lclock_time_return:",
    "  add rsp, 16",
    "  pop rbx",
    "  ret",
    ".Lclock_plain_gettime:",
    "  mov eax, 228",
    "  syscall",
    "  ret",
    ".Lclock_plain_timeofday:",
    "  mov eax, 96",
    "  syscall",
    "  ret",
    ".Lclock_plain_time:",
    "  mov eax, 201",
    "  syscall",
    "  ret",
    // A program's first instructions: asks the sentry for the page, maps it where it was told to, and begins.
    ".Lclock_begin:",
    "  mov edi, {ASK_PAGE}",
    "  xor esi, esi",
    "  mov eax, 228", // clock_gettime, which the sentry answers with a descriptor
    "  syscall",
    "  test eax, eax",
    "  js .Lclock_no_page",
    "  mov ebx, eax",
    "  mov rdi, [rip + .Lclock_own]",
    "  mov esi, 4096",
    "  mov edx, 1",          // PROT_READ
    "  mov r10d, 0x100001",  // MAP_SHARED | MAP_FIXED_NOREPLACE
    "  mov r8d, ebx",
    "  xor r9d, r9d",
    "  mov eax, 9", // mmap
    "  syscall",
    "  mov rbp, rax",
    "  mov edi, ebx",
    "  mov eax, 3", // close
    "  syscall",
    "  cmp rbp, [rip + .Lclock_own]",
    "  je .Lclock_begun",
    ".Lclock_no_page:",
    "  mov edi, {ASK_PLAIN}",
    "  xor esi, esi",
    "  mov eax, 228", // clock_gettime: the sentry makes the entries plain system calls
    "  syscall",
    "  test eax, eax",
    "  jns .Lclock_begun",
    "  ud2",
    ".Lclock_begun:",
    // As the kernel starts a program: nothing in any register.
    "  xor eax, eax",
    "  xor ebx, ebx",
    "  xor ecx, ecx",
    "  xor edx, edx",
    "  xor esi, esi",
    "  xor edi, edi",
    "  xor ebp, ebp",
    "  xor r8d, r8d",
    "  xor r9d, r9d",
    "  xor r10d, r10d",
    "  xor r11d, r11d",
    "  jmp qword ptr [rip + .Lclock_own + 8]",
    ".p2align 3",
    ".Lclock_own:",
    "  .quad 0",
    "  .quad 0",
    "sentry_clock_code_end:",
    ".popsection",
    TAI = const libc::CLOCK_TAI,
    COARSE = const libc::CLOCK_REALTIME_COARSE,
    PRETENDED = const page::PRETENDED,
    SEQUENCE = const page::SEQUENCE * 8,
    WRITTEN = const page::WRITTEN,
    SCALED = const page::SCALED,
    SECONDS = const page::SECONDS * 8,
    NANOSECONDS = const page::NANOSECONDS * 8,
    HOST_BASE = const page::HOST_BASE * 8,
    BASE = const page::BASE * 8,
    RATE = const page::RATE * 8,
    TAI_SECONDS = const page::TAI_SECONDS * 8,
    SET_SECONDS = const page::SET_SECONDS * 8,
    SET_NANOSECONDS = const page::SET_NANOSECONDS * 8,
    ASK_PAGE = const page::ASK_PAGE,
    ASK_PLAIN = const page::ASK_PLAIN,
    TO_CLOCK_GETTIME = const TO_CLOCK_GETTIME,
    TO_GETTIMEOFDAY = const TO_GETTIMEOFDAY,
);
