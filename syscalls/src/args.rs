//! Typed syscall arguments.
//!
//! A register is 64 bits wide, but the kernel looks at only part of it when the parameter is an `int`. A check that
//! compares the unused half can be walked around (CVE-2019-9893), so each type says how wide it is, and both the
//! filter compiler and the decoder take the width from here.

/// How much of a register the kernel looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// The low 32 bits: `int`, `unsigned int`, `umode_t`, `pid_t` ...
    W32,
    /// The whole register: pointers, sizes, `unsigned long`.
    W64,
}

impl Width {
    /// The bits that count, as a mask.
    pub const fn bits(self) -> u64 {
        match self {
            Width::W32 => 0xFFFF_FFFF,
            Width::W64 => u64::MAX,
        }
    }
}

/// One parameter of a syscall, as the filter sees it; what it is called stands in
/// [`Syscall::signature`](crate::table::Syscall::signature).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// How much of the register counts.
    pub width: Width,
}

/// What every argument type can do: be built from a register, and say how wide it is.
pub trait Argument: Sized {
    /// How much of the register counts.
    const WIDTH: Width;
    /// Takes the part of the register that the kernel would.
    fn from_register(register: u64) -> Self;
}

macro_rules! narrow {
    ($($(#[doc = $doc:literal])* $name:ident($inner:ty);)*) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub $inner);
        impl Argument for $name {
            const WIDTH: Width = Width::W32;
            #[allow(clippy::cast_possible_truncation)] // the kernel truncates here too
            fn from_register(register: u64) -> Self { Self(register as $inner) }
        }
    )*};
}

macro_rules! wide {
    ($($(#[doc = $doc:literal])* $name:ident($inner:ty);)*) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub $inner);
        impl Argument for $name {
            const WIDTH: Width = Width::W64;
            #[allow(clippy::cast_possible_truncation)]
            fn from_register(register: u64) -> Self { Self(register as $inner) }
        }
    )*};
}

narrow! {
    /// A file descriptor of the guest.
    Fd(i32);
    /// A directory descriptor of the guest, or `AT_FDCWD`.
    DirFd(i32);
    /// An `int`.
    Int(i32);
    /// An `unsigned int`.
    Uint(u32);
    /// A set of flags that the kernel takes as an `int`.
    Flags(u32);
    /// Permission and type bits, `umode_t`.
    Mode(u32);
    /// A process or thread id.
    Pid(i32);
    /// A user or group id.
    Id(u32);
    /// A signal number.
    Signal(i32);
    /// A `clockid_t`.
    ClockId(i32);
    /// The length of a socket address, `int` to the kernel.
    SockLen(u32);
    /// A device number, `unsigned int` to the kernel.
    Device(u32);
}

wide! {
    /// An address in the guest's memory.
    UserPtr(u64);
    /// The address of a NUL-terminated path in the guest's memory.
    PathPtr(u64);
    /// A size in bytes.
    Size(u64);
    /// A file offset.
    Offset(i64);
    /// An `unsigned long`, such as mount flags.
    Word(u64);
    /// A `long`.
    Long(i64);
}

impl DirFd {
    /// "Relative to the working directory", `AT_FDCWD`.
    pub const CWD: DirFd = DirFd(libc::AT_FDCWD);
}

impl From<PathPtr> for UserPtr {
    fn from(path: PathPtr) -> Self {
        Self(path.0)
    }
}

impl UserPtr {
    /// True for the null pointer.
    pub fn is_null(self) -> bool {
        self.0 == 0
    }

    /// The address `bytes` further on; wraps, so that a wild pointer faults like any other.
    pub fn offset(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}
