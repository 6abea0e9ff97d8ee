//! config.md, Process: terminal and consoleSize; the descriptor comes over a socket, as runc has it and engines expect it.

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use sentry_tests::oci::{Bundle, Stand};
use serde_json::{Value, json};

use crate::verdict::{Test, Unmet, Verdict, must};

const PLACE: &str = "config.md, Process";

pub const TESTS: &[Test] = &[
    must(
        "terminal",
        PLACE,
        "terminal: a pseudo-terminal is the program's stdin, stdout and stderr, and controls it",
        attached,
    ),
    must("terminal_console_size", PLACE, "consoleSize is the terminal's size", size),
    must("terminal_console", "config-linux.md, Default Devices", "/dev/console is the terminal", console),
    must("console_size_without_a_terminal", PLACE, "consoleSize is ignored without a terminal", ignored),
    must("terminal_is_off_by_default", PLACE, "without terminal there is none, nor a /dev/console", off),
];

/// Runs the probe on a terminal, and returns what it saw.
fn on_terminal(stand: &Stand, change: impl Fn(&mut Bundle)) -> Result<(Value, Vec<u8>), Unmet> {
    let mut bundle = stand.bundle();
    bundle.config["process"]["terminal"] = json!(true);
    change(&mut bundle);
    let socket = bundle.path.join("tty");
    let listener = UnixListener::bind(&socket).map_err(|error| error.to_string())?;
    listener.set_nonblocking(true).map_err(|error| error.to_string())?;
    bundle.options = vec!["--console-socket".to_owned(), socket.to_string_lossy().into_owned()];
    bundle.args(["report", "--to", "/seen", "/dev/console", "/dev/pts/0"]);
    let container = bundle.create()?;
    let (stream, _) = listener.accept().map_err(|error| format!("nobody came to the console socket: {error}"))?;
    let master = received(stream.as_raw_fd())?;
    container.start()?;
    let code = container.wait()?;
    let mut told = [0_u8; 4096];
    let length = nix::unistd::read(&master, &mut told).unwrap_or(0);
    let text = fs::read_to_string(bundle.rootfs("seen")).unwrap_or_default();
    let seen = serde_json::from_str(&text);
    let seen = seen
        .map_err(|_| format!("the program ended with {code} and said {}", String::from_utf8_lossy(&told[..length])))?;
    container.delete()?;
    Ok((seen, told[..length].to_vec()))
}

fn received(socket: RawFd) -> Result<OwnedFd, Unmet> {
    let mut payload = [0_u8; 4096];
    let mut space = nix::cmsg_space!([RawFd; 4]);
    let mut buffers = [std::io::IoSliceMut::new(&mut payload)];
    let message = recvmsg::<()>(socket, &mut buffers, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC);
    let message = message.map_err(|error| format!("console socket: {error}"))?;
    for part in message.cmsgs().map_err(|error| error.to_string())? {
        if let ControlMessageOwned::ScmRights(descriptors) = part
            && let Some(first) = descriptors.first()
        {
            // SAFETY: the kernel has just installed it for us.
            return Ok(unsafe { OwnedFd::from_raw_fd(*first) });
        }
    }
    Err(Unmet::Failed("no descriptor came over the console socket".to_owned()))
}

fn attached(stand: &Stand) -> Verdict {
    let (seen, _) = on_terminal(stand, |_| {})?;
    same!(seen["terminal"]["is"], json!([true, true, true]), "stdin, stdout, stderr are terminals");
    same!(seen["terminal"]["controlling"], json!(true), "/dev/tty opens");
    same!(seen["session"], seen["pid"], "the program leads its session");
    Ok(())
}

fn size(stand: &Stand) -> Verdict {
    let (seen, _) = on_terminal(stand, |bundle| {
        bundle.config["process"]["consoleSize"] = json!({ "height": 33, "width": 101 });
    })?;
    same!([&seen["terminal"]["rows"], &seen["terminal"]["columns"]], [&json!(33), &json!(101)], "rows and columns");
    Ok(())
}

fn console(stand: &Stand) -> Verdict {
    let (seen, _) = on_terminal(stand, |_| {})?;
    let (console, pts) = (&seen["paths"]["/dev/console"], &seen["paths"]["/dev/pts/0"]);
    same!(console["type"], json!("c"), "/dev/console");
    // The pseudo-terminals of Unix 98 have the majors from 136 on.
    same!(console["major"], json!(136), "its major number");
    if pts["type"] == "c" {
        same!(console["minor"], pts["minor"], "its minor number");
    }
    Ok(())
}

fn ignored(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["process"]["consoleSize"] = json!({ "height": 33, "width": 101 });
    let seen = bundle.report(&[])?;
    same!(seen["terminal"]["rows"], Value::Null, "rows");
    Ok(())
}

fn off(stand: &Stand) -> Verdict {
    let seen = stand.bundle().report(&["/dev/console"])?;
    same!(seen["terminal"]["is"], json!([false, false, false]), "terminals");
    same!(seen["terminal"]["controlling"], json!(false), "a controlling terminal");
    Ok(())
}
