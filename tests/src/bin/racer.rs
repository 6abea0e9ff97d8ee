//! A program that races: `racer KIND TRIES` makes a call whose meaning another thread keeps changing between something that is
//! allowed and a secret that is not, and says `won` as soon as it gets at the secret, otherwise `lost` and how often the
//! allowed meaning came through.
//!
//! It finds a directory with `key.pez`, `key.pem`, the FIFO `key.pef`, `A/k` and `B/k`, or
//! `X/B/k` and a link `Y/B` to `A`; all that is hidden is filled with `SECRET`.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What one try came to.
enum Try {
    /// The secret was had.
    Won,
    /// The call had its allowed meaning.
    Allowed,
    /// It failed.
    Refused,
}
use Try::{Allowed, Refused, Won};

// They differ in one byte, so that the memory never says anything else.
const FREE: &[u8] = b"key.pez\0";
const SECRET: &[u8] = b"key.pem\0";
const FIFO: &[u8] = b"key.pef\0";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let tries: usize = arguments[1].parse().expect("a number of tries");
    let allowed = AtomicUsize::new(0);
    let count = |result: Try| {
        if matches!(result, Allowed) {
            allowed.fetch_add(1, Ordering::Relaxed);
        }
        matches!(result, Won)
    };
    let won = match &*arguments[0] {
        "open" => bytes([FREE, SECRET], tries, &|path| count(open(path, 0))),
        "fifo" => bytes([FIFO, SECRET], tries, &|path| count(open(path, libc::O_NONBLOCK))),
        "stat" => bytes([FREE, SECRET], tries, &|path| count(stat(path))),
        "rename" => bytes([FREE, SECRET], tries, &|path| count(rename(path))),
        "link" => bytes([FREE, SECRET], tries, &|path| count(link(path))),
        "how" => bytes([&how(0, 0), &how(libc::O_CREAT, 0o4755)], tries, &|how| count(open_how(how))),
        "symlink" => {
            let _ = (symlink("A", "flip"), symlink("B", "flop"));
            names([c"flip", c"flop"], tries, &|| count(open(c"flip/k".as_ptr() as usize, 0)))
        }
        "directory" => names([c"X", c"Y"], tries, &|| count(open(c"X/B/k".as_ptr() as usize, 0))),
        other => panic!("no race {other}"),
    };
    let verdict = if won { "won".to_owned() } else { format!("lost {}", allowed.into_inner()) };
    let _ = writeln!(std::io::stdout(), "{verdict}");
}

fn how(flags: i32, mode: u64) -> Vec<u8> {
    [flags.unsigned_abs().into(), mode, 0_u64].iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Another thread writes one and the other over the same memory.
fn bytes(meanings: [&[u8]; 2], tries: usize, attempt: &dyn Fn(usize) -> bool) -> bool {
    assert_eq!(meanings[0].len(), meanings[1].len());
    let mut memory = meanings[0].to_vec();
    let shared = memory.as_mut_ptr() as usize;
    let write = |meaning: &[u8]| {
        for (at, byte) in meaning.iter().enumerate() {
            // SAFETY: within the buffer, which outlives the scope; that the kernel reads meanwhile is the point.
            unsafe { std::ptr::write_volatile((shared as *mut u8).add(at), *byte) };
        }
        (0..100).for_each(|_| std::hint::spin_loop());
    };
    meanwhile(&|round| write(meanings[round % 2]), tries, &|| attempt(shared))
}

/// Another thread exchanges two names.
fn names(pair: [&std::ffi::CStr; 2], tries: usize, attempt: &dyn Fn() -> bool) -> bool {
    let exchange = |_| {
        let [one, other] = pair.map(|name| name.as_ptr());
        // SAFETY: both paths are NUL-terminated.
        unsafe { libc::renameat2(libc::AT_FDCWD, one, libc::AT_FDCWD, other, libc::RENAME_EXCHANGE) };
    };
    meanwhile(&exchange, tries, attempt)
}

fn meanwhile(change: &(dyn Fn(usize) + Sync), tries: usize, attempt: &dyn Fn() -> bool) -> bool {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                change(round);
            }
        });
        let won = (0..tries).any(|_| attempt());
        stop.store(true, Ordering::Relaxed);
        won
    })
}

/// Whether a file is the secret one.
fn judge(mut file: fs::File) -> Try {
    let mut start = [0; 6];
    match file.read(&mut start) {
        Ok(6) if &start == b"SECRET" => Won,
        _ => Allowed,
    }
}

fn open(path: usize, flags: i32) -> Try {
    // SAFETY: the path is NUL-terminated at any moment; a new descriptor is owned by nobody else.
    unsafe {
        let fd = libc::open(path as *const libc::c_char, flags | libc::O_CLOEXEC);
        if fd < 0 { Refused } else { judge(fs::File::from_raw_fd(fd)) }
    }
}

fn stat(path: usize) -> Try {
    // SAFETY: as above; any bytes are a valid structure.
    let (result, stat) = unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        (libc::stat(path as *const libc::c_char, &raw mut stat), stat)
    };
    match result {
        0 if stat.st_size == 6 => Won,
        0 => Allowed,
        _ => Refused,
    }
}

fn rename(path: usize) -> Try {
    // SAFETY: as above.
    if unsafe { libc::rename(path as *const libc::c_char, c"got.txt".as_ptr()) } != 0 {
        return Refused;
    }
    let got = open(c"got.txt".as_ptr() as usize, 0);
    let _ = fs::rename("got.txt", "key.pez");
    got
}

fn link(path: usize) -> Try {
    // SAFETY: as above.
    if unsafe { libc::link(path as *const libc::c_char, c"got.txt".as_ptr()) } != 0 {
        return Refused;
    }
    let got = open(c"got.txt".as_ptr() as usize, 0);
    let _ = fs::remove_file("got.txt");
    got
}

/// The structure is about opening a file, or about making one that would run as its owner.
fn open_how(how: usize) -> Try {
    // SAFETY: path and structure outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_openat2, libc::AT_FDCWD, c"made".as_ptr(), how, 24) };
    if let Ok(fd) = i32::try_from(fd)
        && fd >= 0
    {
        // SAFETY: a new descriptor, owned by nobody else.
        drop(unsafe { fs::File::from_raw_fd(fd) });
    }
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata("made").map(|metadata| metadata.permissions().mode());
    let _ = fs::remove_file("made");
    match mode {
        Ok(mode) if mode & 0o6000 != 0 => Won,
        Ok(_) => Allowed,
        // Every try means something: there is no file to be opened.
        Err(_) => Allowed,
    }
}
