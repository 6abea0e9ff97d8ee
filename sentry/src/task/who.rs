//! Who a task pretends to be: the number of its credentials is read and set here, as a resource limit of its process.
//!
//! [`pretended`](crate::pretended) tells what the numbers are and why they are kept there.

use std::os::fd::AsFd;
use std::sync::Arc;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::libc;
use shim::sys;
use syscalls::credentials::Credentials;

use super::{Task, whole};
use crate::entry::Entry;
use crate::platform::Platform;
use crate::pretended::{Image, Known};

impl<P: Platform> Task<'_, P> {
    /// The caller's credentials, as the last exec has left them.
    pub(super) fn own_credentials(&self) -> Result<Arc<Credentials>, Errno> {
        let limit = crate::raw::real_time_limit(self.notification.tid)?;
        let known = self.shared.pretended.of_limit(limit);
        let executed = match known.set_in {
            Some(image) => self.image()? != image,
            None => false,
        };
        self.still_pending()?;
        let credentials = self.shared.pretended.mapped(known.credentials);
        if !executed {
            return Ok(credentials);
        }
        let after = credentials.after_exec();
        // Remembered if there is room, so that it need not be asked again.
        if let Ok(new) = self.shared.pretended.limit_for(after.clone(), || self.image()) {
            let _alone = self.shared.pretended.alone();
            if crate::raw::real_time_limit(self.notification.tid)? == limit {
                crate::raw::set_real_time_limit(self.notification.tid, new)?;
            }
        }
        Ok(Arc::new(after))
    }

    /// Makes the caller's process somebody else. Should its thread be gone after the last look, and its number another's
    /// already, then that one is told wrong ids: a nuisance, for they grant nothing.
    pub(super) fn become_somebody(&self, credentials: Credentials) -> Result<(), Errno> {
        let limit = self.shared.pretended.limit_for(credentials, || self.image())?;
        let _alone = self.shared.pretended.alone();
        self.still_pending()?;
        crate::raw::set_real_time_limit(self.notification.tid, limit)
    }

    /// What tells this execution of a program from others ([`Image`]).
    fn image(&self) -> Result<Image, Errno> {
        self.image_of(self.notification.tid)
    }

    /// Where its code and its stack begin, which the kernel chooses at random at each exec; see proc_pid_stat(5).
    fn image_of(&self, thread: i32) -> Result<Image, Errno> {
        let path = Entry::new(format_args!("{thread}/stat"))?;
        let file = sys::open_at(Some(self.shared.proc.as_fd()), path.name()?, libc::O_RDONLY | libc::O_CLOEXEC, 0, 0)?;
        let stat = whole(&file)?;
        // `fields[0]` is field 3 of the man page: the name in parentheses may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(") ").ok_or(Errno::ESRCH)?.1.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).and_then(|field| field.parse::<u64>().ok());
        let (code, stack) = field(26).zip(field(28)).ok_or(Errno::ESRCH)?;
        Ok(code.rotate_left(32) ^ stack)
    }

    /// The number in the supervisor's pid namespace of the process that the guest knows by `process`. The guest's own
    /// procfs does not tell it, so all processes are asked.
    pub(super) fn number_here(&self, process: i32) -> Result<i32, Errno> {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let entries = sys::open_at(Some(self.shared.proc.as_fd()), c".", flags, 0, 0)?;
        for entry in Dir::from_fd(entries)?.iter() {
            let number = entry?.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok());
            if let Some(number) = number
                && self.guests_number(number) == Ok(process)
            {
                return Ok(number);
            }
        }
        Err(Errno::ESRCH)
    }

    /// The guest's number of the process that the supervisor knows by `number`.
    pub(super) fn guests_number(&self, number: i32) -> Result<i32, Errno> {
        let path = Entry::new(format_args!("{number}/status"))?;
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        let status = whole(&sys::open_at(Some(self.shared.proc.as_fd()), path.name()?, flags, 0, 0)?)?;
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).ok_or(Errno::ESRCH)?;
        let mut numbers = numbers.split_ascii_whitespace().filter_map(|number| number.parse().ok());
        // The supervisor itself has one number only.
        numbers.nth(1).ok_or(Errno::ESRCH)
    }

    /// Who the process with this number of the supervisor's pid namespace pretends to be.
    pub(super) fn credentials_here(&self, process: i32) -> Result<Arc<Credentials>, Errno> {
        let known = self.shared.pretended.of_limit(crate::raw::real_time_limit(process)?);
        let credentials = self.shared.pretended.mapped(known.credentials);
        match known.set_in {
            Some(image) if self.image_of(process)? != image => Ok(Arc::new(credentials.after_exec())),
            _ => Ok(credentials),
        }
    }

    /// What the text of a `limits` file in procfs says of who its process pretends to be.
    pub(super) fn of_limits(&self, limits: &str) -> Result<Known, Errno> {
        let line = limits.lines().find_map(|line| line.strip_prefix("Max realtime timeout")).ok_or(Errno::ENOENT)?;
        let soft = line.split_ascii_whitespace().next().and_then(|soft| soft.parse().ok());
        Ok(self.shared.pretended.of_limit(soft.unwrap_or(libc::RLIM_INFINITY)))
    }
}
