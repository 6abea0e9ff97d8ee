//! Mounts and makes devices while a timer interrupts it: `interrupted COUNT MICROSECONDS DIRECTORY`, as root of a container.
//!
//! Each mount must be made once, however often the kernel starts the call again: it prints how many calls were made, how many
//! signals came, and how many mounts and devices were made twice, refused or missing.

#![allow(clippy::print_stdout)] // a test reads it
use std::ffi::CString;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

static SIGNALS: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

fn set_timer(microseconds: i64) {
    let time = libc::timeval { tv_sec: 0, tv_usec: microseconds };
    let timer = libc::itimerval { it_interval: time, it_value: time };
    // SAFETY: the structure outlives the call, and nothing is returned.
    let set = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    assert_eq!(set, 0);
}

/// Repeats a call that a signal without `SA_RESTART` would have ended.
fn again(mut call: impl FnMut() -> nix::Result<()>) -> nix::Result<()> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// How often something is mounted there.
fn mounted(place: &str) -> usize {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("a table of mounts");
    table.lines().filter(|line| line.split(' ').nth(4) == Some(place)).count()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().expect("COUNT MICROSECONDS DIRECTORY");
    let calls: u32 = next().parse().expect("a count");
    let period: i64 = next().parse().expect("microseconds");
    let (place, device) = {
        let directory = next();
        (format!("{directory}/m"), format!("{directory}/null"))
    };
    std::fs::create_dir_all(&place).expect("a directory to mount on");
    let (mut twice, mut refused, mut missing) = (0, 0, 0);
    for round in 0..calls {
        let flags = if round % 2 == 0 { SaFlags::SA_RESTART } else { SaFlags::empty() };
        let action = SigAction::new(SigHandler::Handler(count), flags, SigSet::empty());
        // SAFETY: the handler adds to a number.
        unsafe { sigaction(Signal::SIGALRM, &action) }.expect("a handler");
        let name = CString::new(format!("round-{round}")).expect("no NUL");
        set_timer(period);
        let made =
            again(|| mount(Some(name.as_c_str()), place.as_str(), Some("tmpfs"), MsFlags::empty(), None::<&str>));
        let device_made =
            again(|| mknod(device.as_str(), SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3)));
        set_timer(0);
        refused += u32::from(made.is_err()) + u32::from(device_made.is_err());
        let (mounts, devices) = (mounted(&place), mounted(&device));
        twice += u32::from(mounts > 1) + u32::from(devices > 1);
        missing += u32::from(mounts == 0);
        set_timer(period);
        for path in [&place, &device] {
            let _ = again(|| umount2(path.as_str(), MntFlags::empty()));
        }
        set_timer(0);
        // One umount takes one away.
        missing += u32::from(mounts == 2 && mounted(&place) == 0);
        while umount2(place.as_str(), MntFlags::empty()).is_ok() {}
        while umount2(device.as_str(), MntFlags::empty()).is_ok() {}
        let _ = std::fs::remove_file(&device);
    }
    let signals = SIGNALS.load(Ordering::Relaxed);
    println!("calls {calls} signals {signals} twice {twice} refused {refused} missing {missing}");
}
