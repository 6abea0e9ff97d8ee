//! `xattr(7)`: extended attributes. Those that carry privileges (`security.capability`, `trusted.*`) need capabilities that
//! the guest has not got, in the user namespace that owns the file system; the kernel refuses them. Under `--fake-root` the first is
//! the sentry's to tell ([`pretend`]).

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::stat::{SFlag, fstat};

use super::judge::{self, Use};
use super::named::{EMPTY_PATH, NO_FOLLOW, Named};
use super::object::kind;
use super::pretend::{self, attributes};
use super::reopen;
use super::walk::in_directory;
use crate::args::{DirFd, Fd, Flags, PathPtr, Size, UserPtr};
use crate::guest::Guest;
use crate::reply::{Answer, Reply};
use crate::sys::{self, Bearer};

crate::syscalls! {
    /// Sets an extended attribute of a file.
    /// Limit: under `--fake-root` `security.capability` is only told; names beginning with `user.sentry.` fail with `EPERM`.
    setxattr(path: PathPtr, name: UserPtr, value: UserPtr, size: Size, flags: Flags) File Default Allow {
        PathCalls => Emulate(setxattr),
    };
    /// Sets an extended attribute of a file or link.
    lsetxattr(path: PathPtr, name: UserPtr, value: UserPtr, size: Size, flags: Flags) File Default Allow {
        PathCalls => Emulate(lsetxattr),
    };
    /// Sets an extended attribute of an open file.
    fsetxattr(file: Fd, name: UserPtr, value: UserPtr, size: Size, flags: Flags) File Default Allow {
        FakeRoot => Emulate(fsetxattr),
        PathRules => Emulate(fsetxattr),
    };
    /// Sets an extended attribute of a file, relative to a directory.
    setxattrat(dir: DirFd, path: PathPtr, flags: Flags, name: UserPtr, args: UserPtr, size: Size) File Compat Allow {
        PathCalls => Emulate(setxattrat),
    };
    /// Reads an extended attribute of a file.
    getxattr(path: PathPtr, name: UserPtr, value: UserPtr, size: Size) File Default Allow {
        PathCalls => Emulate(getxattr),
    };
    /// Reads an extended attribute of a file or link.
    lgetxattr(path: PathPtr, name: UserPtr, value: UserPtr, size: Size) File Default Allow {
        PathCalls => Emulate(lgetxattr),
    };
    /// Reads an extended attribute of an open file.
    fgetxattr(file: Fd, name: UserPtr, value: UserPtr, size: Size) File Default Allow {
        FakeRoot => Emulate(fgetxattr),
    };
    /// Reads an extended attribute of a file, relative to a directory.
    getxattrat(dir: DirFd, path: PathPtr, flags: Flags, name: UserPtr, args: UserPtr, size: Size) File Compat Allow {
        PathCalls => Emulate(getxattrat),
    };
    /// Lists the extended attributes of a file.
    listxattr(path: PathPtr, list: UserPtr, size: Size) File Default Allow {
        PathCalls => Emulate(listxattr),
    };
    /// Lists the extended attributes of a file or link.
    llistxattr(path: PathPtr, list: UserPtr, size: Size) File Default Allow {
        PathCalls => Emulate(llistxattr),
    };
    /// Lists the extended attributes of an open file.
    flistxattr(file: Fd, list: UserPtr, size: Size) File Default Allow {
        FakeRoot => Emulate(flistxattr),
    };
    /// Lists the extended attributes of a file, relative to a directory.
    listxattrat(dir: DirFd, path: PathPtr, flags: Flags, list: UserPtr, size: Size) File Compat Allow {
        PathCalls => Emulate(listxattrat),
    };
    /// Removes an extended attribute of a file.
    removexattr(path: PathPtr, name: UserPtr) File Default Allow {
        PathCalls => Emulate(removexattr),
    };
    /// Removes an extended attribute of a file or link.
    lremovexattr(path: PathPtr, name: UserPtr) File Default Allow {
        PathCalls => Emulate(lremovexattr),
    };
    /// Removes an extended attribute of an open file.
    fremovexattr(file: Fd, name: UserPtr) File Default Allow {
        FakeRoot => Emulate(fremovexattr),
        PathRules => Emulate(fremovexattr),
    };
    /// Removes an extended attribute of a file, relative to a directory.
    removexattrat(dir: DirFd, path: PathPtr, flags: Flags, name: UserPtr) File Compat Allow {
        PathCalls => Emulate(removexattrat),
    };
}

/// The longest name, `XATTR_NAME_MAX`.
const LONGEST_NAME: usize = 255;
/// The longest value, and the longest list of names: `XATTR_SIZE_MAX`, `XATTR_LIST_MAX`.
const LONGEST: usize = 65536;
/// `XATTR_CREATE` and `XATTR_REPLACE`.
const KNOWN: u32 = 3;

/// An attribute to be set: copied before the path is, as the kernel does.
struct Setting {
    name: CString,
    value: Vec<u8>,
    flags: u32,
}

impl Setting {
    fn copy(guest: &dyn Guest, name: UserPtr, value: UserPtr, size: u64, flags: u32) -> Result<Self, Errno> {
        if flags & !KNOWN != 0 {
            return Err(Errno::EINVAL);
        }
        let name = attribute_name(guest, name)?;
        let size = usize::try_from(size).ok().filter(|size| *size <= LONGEST).ok_or(Errno::E2BIG)?;
        let mut bytes = vec![0; size];
        guest.read(value, &mut bytes)?;
        guest.owner().give_in_attribute(&name, &mut bytes);
        Ok(Self { name, value: bytes, flags })
    }

    fn set(&self, guest: &dyn Guest, named: &Named) -> Answer {
        if guest.rules().fake_root {
            return attributes::set(guest, &object_of(guest, named, Use::Change)?, &self.pretended());
        }
        on(guest, named, Use::Change, |bearer| sys::set_attribute(bearer, &self.name, &self.value, self.flags))?;
        Ok(Reply::Return(0))
    }

    fn pretended(&self) -> attributes::Setting<'_> {
        attributes::Setting { name: &self.name, value: &self.value, flags: self.flags }
    }
}

fn attribute_name(guest: &dyn Guest, at: UserPtr) -> Result<CString, Errno> {
    match guest.read_path(PathPtr(at.0)) {
        Ok(name) if (1..=LONGEST_NAME).contains(&name.as_bytes().len()) => Ok(name),
        Ok(_) | Err(Errno::ENAMETOOLONG) => Err(Errno::ERANGE),
        Err(errno) => Err(errno),
    }
}

/// Acts on the object that a path names, or on the descriptor in place of one.
fn on<T>(guest: &dyn Guest, named: &Named, usage: Use, act: impl Fn(Bearer) -> Result<T, Errno>) -> Result<T, Errno> {
    if let Some(fd) = named.descriptor() {
        // Unlike a path, a descriptor without an open file (`O_PATH`) will not do.
        let file = guest.duplicate(fd)?;
        judge::object(guest, named.call(), &file, usage)?;
        if usage == Use::Change {
            reopen::may_copy(guest, &file)?;
        }
        return act(Bearer::File(file.as_fd()));
    }
    let object = named.object(usage)?;
    if !named.follows() && !named.is_descriptor() && kind(&fstat(&object)?) == SFlag::S_IFLNK {
        let parent = named.parent()?;
        let name = parent.as_given()?;
        return in_directory(&parent.dir, || act(Bearer::Itself(&name)));
    }
    let entry = CString::new(object.as_raw_fd().to_string()).map_err(|_| Errno::EINVAL)?;
    in_directory(&guest.descriptors()?, || act(Bearer::Followed(&entry)))
}

/// The object that a path names, or the file that is open in place of one.
fn object_of(guest: &dyn Guest, named: &Named, usage: Use) -> Result<OwnedFd, Errno> {
    let Some(fd) = named.descriptor() else { return named.object(usage) };
    let file = guest.duplicate(fd)?;
    pretend::is_open(&file)?;
    judge::object(guest, named.call(), &file, usage)?;
    if usage == Use::Change {
        reopen::may_copy(guest, &file)?;
    }
    Ok(file)
}

/// What the kernel tells, cut to the guest's buffer or, without one, only how long it is.
fn told(guest: &dyn Guest, into: UserPtr, size: u64, ask: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Answer {
    let room = usize::try_from(size).unwrap_or(LONGEST).min(LONGEST);
    let mut bytes = vec![0; room];
    let length = ask(&mut bytes)?;
    if room > 0 {
        guest.write(into, &bytes[..length.min(room)])?;
    }
    Ok(Reply::Return(i64::try_from(length).map_err(|_| Errno::EIO)?))
}

fn setxattr(guest: &dyn Guest, path: PathPtr, name: UserPtr, value: UserPtr, size: Size, flags: Flags) -> Answer {
    let setting = Setting::copy(guest, name, value, size.0, flags.0)?;
    setting.set(guest, &Named::copy(guest, "setxattr", DirFd::CWD, path)?)
}

fn lsetxattr(guest: &dyn Guest, path: PathPtr, name: UserPtr, value: UserPtr, size: Size, flags: Flags) -> Answer {
    let setting = Setting::copy(guest, name, value, size.0, flags.0)?;
    setting.set(guest, &Named::copy(guest, "lsetxattr", DirFd::CWD, path)?.itself())
}

fn fsetxattr(guest: &dyn Guest, file: Fd, name: UserPtr, value: UserPtr, size: Size, flags: Flags) -> Answer {
    let file = guest.duplicate(file)?;
    let setting = Setting::copy(guest, name, value, size.0, flags.0)?;
    judge::object(guest, "fsetxattr", &file, Use::Change)?;
    reopen::may_copy(guest, &file)?;
    if guest.rules().fake_root {
        pretend::is_open(&file)?;
        return attributes::set(guest, &file, &setting.pretended());
    }
    sys::set_attribute(Bearer::File(file.as_fd()), &setting.name, &setting.value, setting.flags)?;
    Ok(Reply::Return(0))
}

fn setxattrat(
    guest: &dyn Guest,
    dir: DirFd,
    path: PathPtr,
    flags: Flags,
    name: UserPtr,
    args: UserPtr,
    size: Size,
) -> Answer {
    let args = Arguments::copy(guest, args, size)?;
    known(flags)?;
    let setting = Setting::copy(guest, name, UserPtr(args.value), u64::from(args.size), args.flags)?;
    setting.set(guest, &named_at(guest, "setxattrat", dir, path, flags)?)
}

fn getxattr(guest: &dyn Guest, path: PathPtr, name: UserPtr, value: UserPtr, size: Size) -> Answer {
    let name = attribute_name(guest, name)?;
    get(guest, &Named::copy(guest, "getxattr", DirFd::CWD, path)?, &name, value, size.0)
}

fn lgetxattr(guest: &dyn Guest, path: PathPtr, name: UserPtr, value: UserPtr, size: Size) -> Answer {
    let name = attribute_name(guest, name)?;
    get(guest, &Named::copy(guest, "lgetxattr", DirFd::CWD, path)?.itself(), &name, value, size.0)
}

fn getxattrat(
    guest: &dyn Guest,
    dir: DirFd,
    path: PathPtr,
    flags: Flags,
    name: UserPtr,
    args: UserPtr,
    size: Size,
) -> Answer {
    let args = Arguments::copy(guest, args, size)?;
    if args.flags != 0 {
        return Err(Errno::EINVAL);
    }
    known(flags)?;
    let name = attribute_name(guest, name)?;
    let named = named_at(guest, "getxattrat", dir, path, flags)?;
    get(guest, &named, &name, UserPtr(args.value), u64::from(args.size))
}

fn get(guest: &dyn Guest, named: &Named, name: &CStr, value: UserPtr, size: u64) -> Answer {
    if guest.rules().fake_root {
        let object = object_of(guest, named, Use::Read)?;
        return told(guest, value, size, |into| attributes::get(guest, &object, name, into));
    }
    on(guest, named, Use::Read, |bearer| {
        told(guest, value, size, |into| {
            let length = sys::attribute(bearer, name, into)?;
            guest.owner().show_in_attribute(name, into);
            Ok(length)
        })
    })
}

fn fgetxattr(guest: &dyn Guest, file: Fd, name: UserPtr, value: UserPtr, size: Size) -> Answer {
    let file = guest.duplicate(file)?;
    pretend::is_open(&file)?;
    let name = attribute_name(guest, name)?;
    told(guest, value, size.0, |into| attributes::get(guest, &file, &name, into))
}

fn flistxattr(guest: &dyn Guest, file: Fd, list: UserPtr, size: Size) -> Answer {
    let file = guest.duplicate(file)?;
    pretend::is_open(&file)?;
    told(guest, list, size.0, |into| attributes::list(guest, &file, into))
}

fn listxattr(guest: &dyn Guest, path: PathPtr, list: UserPtr, size: Size) -> Answer {
    names(guest, &Named::copy(guest, "listxattr", DirFd::CWD, path)?, list, size)
}

fn llistxattr(guest: &dyn Guest, path: PathPtr, list: UserPtr, size: Size) -> Answer {
    names(guest, &Named::copy(guest, "llistxattr", DirFd::CWD, path)?.itself(), list, size)
}

fn listxattrat(guest: &dyn Guest, dir: DirFd, path: PathPtr, flags: Flags, list: UserPtr, size: Size) -> Answer {
    names(guest, not_cwd(&named_at(guest, "listxattrat", dir, path, flags)?)?, list, size)
}

fn names(guest: &dyn Guest, named: &Named, list: UserPtr, size: Size) -> Answer {
    if guest.rules().fake_root {
        let object = object_of(guest, named, Use::Read)?;
        return told(guest, list, size.0, |into| attributes::list(guest, &object, into));
    }
    on(guest, named, Use::Read, |bearer| told(guest, list, size.0, |into| sys::attributes(bearer, into)))
}

fn removexattr(guest: &dyn Guest, path: PathPtr, name: UserPtr) -> Answer {
    let name = attribute_name(guest, name)?;
    remove(guest, &Named::copy(guest, "removexattr", DirFd::CWD, path)?, &name)
}

fn lremovexattr(guest: &dyn Guest, path: PathPtr, name: UserPtr) -> Answer {
    let name = attribute_name(guest, name)?;
    remove(guest, &Named::copy(guest, "lremovexattr", DirFd::CWD, path)?.itself(), &name)
}

fn fremovexattr(guest: &dyn Guest, file: Fd, name: UserPtr) -> Answer {
    let file = guest.duplicate(file)?;
    let name = attribute_name(guest, name)?;
    judge::object(guest, "fremovexattr", &file, Use::Change)?;
    reopen::may_copy(guest, &file)?;
    if guest.rules().fake_root {
        pretend::is_open(&file)?;
        return attributes::remove(guest, &file, &name);
    }
    sys::remove_attribute(Bearer::File(file.as_fd()), &name)?;
    Ok(Reply::Return(0))
}

fn removexattrat(guest: &dyn Guest, dir: DirFd, path: PathPtr, flags: Flags, name: UserPtr) -> Answer {
    known(flags)?;
    let name = attribute_name(guest, name)?;
    remove(guest, not_cwd(&named_at(guest, "removexattrat", dir, path, flags)?)?, &name)
}

fn remove(guest: &dyn Guest, named: &Named, name: &CStr) -> Answer {
    if guest.rules().fake_root {
        return attributes::remove(guest, &object_of(guest, named, Use::Change)?, name);
    }
    on(guest, named, Use::Change, |bearer| sys::remove_attribute(bearer, name))?;
    Ok(Reply::Return(0))
}

/// These flags are looked at before the name is.
fn known(flags: Flags) -> Result<(), Errno> {
    if flags.0 & !(NO_FOLLOW | EMPTY_PATH) == 0 { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Two of these calls do not take the working directory for a descriptor.
fn not_cwd<'n, 'g>(named: &'n Named<'g>) -> Result<&'n Named<'g>, Errno> {
    if named.is_descriptor() && named.descriptor().is_none() { Err(Errno::EBADF) } else { Ok(named) }
}

fn named_at<'g>(
    guest: &'g dyn Guest,
    call: &'static str,
    dir: DirFd,
    path: PathPtr,
    flags: Flags,
) -> Result<Named<'g>, Errno> {
    Named::or_nothing(guest, call, dir, path, flags, NO_FOLLOW | EMPTY_PATH)
}

/// `struct xattr_args` as its first version has it.
struct Arguments {
    value: u64,
    size: u32,
    flags: u32,
}

impl Arguments {
    const LENGTH: usize = 16;

    fn copy(guest: &dyn Guest, at: UserPtr, size: Size) -> Result<Self, Errno> {
        let bytes = guest.read_struct(at, size, Self::LENGTH)?;
        let word = |at: usize| u32::from_ne_bytes(std::array::from_fn(|index| bytes[at + index]));
        let value = u64::from_ne_bytes(std::array::from_fn(|index| bytes[index]));
        Ok(Self { value, size: word(8), flags: word(12) })
    }
}
