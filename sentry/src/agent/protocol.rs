//! What a runtime tells an agent: one `ContainerProcessState` of the OCI runtime specification, as JSON over a stream, with
//! the descriptors it names on the first message.
//!
//! Whoever can connect is the agent's own user, but what is said may still be wrong, and may come slowly: nothing is
//! believed before it is whole, no more than a mebibyte is read, and only in so many pieces. The end of the stream is not waited
//! for: crun keeps its end open as long as the container runs.

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
use serde::Deserialize;

/// The most that is read of one message.
pub const LONGEST: usize = 1 << 20;
/// And in how many pieces.
const MOST_PIECES: usize = 256;
/// Descriptors of one message, at most: `SCM_MAX_FD`, so that none comes that is not seen, and closed.
const MOST_FILES: usize = 253;
const PIECE: usize = 64 * 1024;
/// The descriptor that is the listener.
const LISTENER: &str = "seccompFd";

/// What a process of a container is, by its runtime.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ProcessState {
    /// What the descriptors are, in their order.
    pub fds: Vec<String>,
    /// The process, as the runtime numbers it; `crun exec` says 0.
    #[serde(default)]
    pub pid: i32,
    /// What the profile says to the agent.
    #[serde(default)]
    pub metadata: String,
    /// The container.
    pub state: State,
}

/// The state of a container, as far as it matters here. Versions are not looked at: crun says 0.2.0.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Its id.
    pub id: String,
    /// `creating`, or `running` for a process that enters it.
    #[serde(default)]
    pub status: String,
    /// Its first process.
    #[serde(default)]
    pub pid: i32,
    /// The directory of its configuration.
    #[serde(default)]
    pub bundle: PathBuf,
    /// What its configuration says of it.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// A message that is arriving.
#[derive(Debug, Default)]
pub struct Incoming {
    bytes: Vec<u8>,
    files: Vec<OwnedFd>,
    pieces: usize,
}

/// A message that has arrived: who sends, and the listener.
pub type Arrived = (ProcessState, OwnedFd);

impl Incoming {
    /// Takes what there is. `None`: there is more to come. The error is what is wrong with it.
    pub fn take(&mut self, stream: BorrowedFd) -> Result<Option<Arrived>, String> {
        loop {
            match self.receive(stream) {
                Ok(0) => return Err(self.cut_short()),
                Ok(_) if self.bytes.len() > LONGEST => return Err("the message is longer than a mebibyte".to_owned()),
                Ok(_) if self.pieces > MOST_PIECES => return Err("the message comes in too many pieces".to_owned()),
                Ok(_) => {
                    if let Some(state) = whole(&self.bytes)? {
                        return listener(&state, std::mem::take(&mut self.files)).map(|file| Some((state, file)));
                    }
                }
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(Errno::EBADMSG) => return Err("there are descriptors after the first message".to_owned()),
                Err(errno) => return Err(format!("the message cannot be read: {}", errno.desc())),
            }
        }
    }

    fn receive(&mut self, stream: BorrowedFd) -> Result<usize, Errno> {
        let mut piece = vec![0; PIECE];
        let mut space = nix::cmsg_space!([RawFd; MOST_FILES]);
        let mut payload = [IoSliceMut::new(&mut piece)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        let received = recvmsg::<UnixAddr>(stream.as_raw_fd(), &mut payload, Some(&mut space), flags)?;
        let length = received.bytes;
        let mut files = Vec::new();
        for message in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(fds) = message {
                files.extend(fds.into_iter().map(shim::sys::own_received));
            }
        }
        if !files.is_empty() && self.pieces > 0 {
            return Err(Errno::EBADMSG);
        }
        self.files.extend(files);
        self.bytes.extend_from_slice(&piece[..length]);
        self.pieces += 1;
        Ok(length)
    }

    fn cut_short(&self) -> String {
        if self.bytes.is_empty() { "nothing was said".to_owned() } else { "the message is cut short".to_owned() }
    }
}

/// The state, if all of it is there.
fn whole(bytes: &[u8]) -> Result<Option<ProcessState>, String> {
    // An object ends with its brace; to look before costs the square of the pieces.
    if bytes.trim_ascii_end().last().is_some_and(|last| *last != b'}') && bytes.first() == Some(&b'{') {
        return Ok(None);
    }
    match serde_json::from_slice(bytes) {
        Ok(state) => Ok(Some(state)),
        Err(error) if error.is_eof() => Ok(None),
        Err(error) => Err(format!("the message is no ContainerProcessState: {error}")),
    }
}

/// The one descriptor that is the listener; others are closed.
fn listener(state: &ProcessState, files: Vec<OwnedFd>) -> Result<OwnedFd, String> {
    if state.state.id.is_empty() || state.state.id.len() > 1024 {
        return Err("the container has no id".to_owned());
    }
    if state.fds.len() != files.len() {
        return Err(format!("{} descriptors are named, and {} were sent", state.fds.len(), files.len()));
    }
    let mut named = state.fds.iter().zip(files).filter(|(name, _)| *name == LISTENER).map(|(_, file)| file);
    let file = named.next().ok_or_else(|| format!("no descriptor is called {LISTENER}"))?;
    let kind = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default();
    if kind.as_os_str() != "anon_inode:seccomp notify" {
        return Err(format!("{LISTENER} is no seccomp listener"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::os::fd::AsFd;

    use nix::sys::socket::{AddressFamily, ControlMessage, SockFlag, SockType, sendmsg, socketpair};

    use super::*;

    const WHOLE: &str = r#"{"ociVersion":"0.2.0","fds":["seccompFd"],"pid":7,"metadata":"default",
        "state":{"ociVersion":"0.2.0","id":"c1","status":"creating","pid":7,"bundle":"/b","annotations":{"k":"v"},"x":1}}"#;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    fn put(stream: &OwnedFd, text: &[u8], files: &[RawFd]) {
        let rights = [ControlMessage::ScmRights(files)];
        let rights = if files.is_empty() { &[][..] } else { &rights[..] };
        sendmsg::<UnixAddr>(stream.as_raw_fd(), &[IoSlice::new(text)], rights, MsgFlags::empty(), None).unwrap();
    }

    /// What comes of these pieces, the first with so many descriptors of no particular kind, before the end of the stream.
    fn refused(pieces: &[&[u8]], files: usize) -> String {
        let (here, there) = pair();
        let null = std::fs::File::open("/dev/null").unwrap();
        let mut incoming = Incoming::default();
        for (number, piece) in pieces.iter().enumerate() {
            put(&here, piece, if number == 0 { vec![null.as_raw_fd(); files] } else { Vec::new() }.as_slice());
            match incoming.take(there.as_fd()) {
                Ok(None) => {}
                Ok(Some(_)) => panic!("{pieces:?} was taken"),
                Err(why) => return why,
            }
        }
        drop(here);
        incoming.take(there.as_fd()).unwrap_err()
    }

    #[test]
    fn the_state_is_read_whatever_else_is_in_it() {
        let state = whole(WHOLE.as_bytes()).unwrap().unwrap();
        assert_eq!((state.pid, state.metadata.as_str(), state.state.id.as_str()), (7, "default", "c1"));
        assert_eq!(state.state.annotations["k"], "v");
        for end in 0..WHOLE.len() {
            assert_eq!(whole(&WHOLE.as_bytes()[..end]), Ok(None), "{end}");
        }
        let entering = br#"{"fds":["seccompFd"],"pid":0,"state":{"id":"c1","status":"running","bundle":"."}}"#;
        assert_eq!(whole(entering).unwrap().unwrap().pid, 0);
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (pieces, files, why) in [
            (&[&b"garbage"[..]][..], 1, "no ContainerProcessState"),
            (&[&b"{}"[..]][..], 1, "missing field `fds`"),
            (&[&b"{\"fds\":"[..]][..], 1, "cut short"),
            (&[][..], 0, "nothing was said"),
            (&[WHOLE.as_bytes()][..], 0, "1 descriptors are named, and 0 were sent"),
            (&[WHOLE.as_bytes()][..], 2, "1 descriptors are named, and 2 were sent"),
            (&[WHOLE.as_bytes()][..], 1, "no seccomp listener"),
            (&[WHOLE.as_bytes()][..], 200, "1 descriptors are named, and 200 were sent"),
            (&[WHOLE.replace("seccompFd", "otherFd").as_bytes()][..], 1, "no descriptor is called seccompFd"),
            (&[WHOLE.replace("\"c1\"", "\"\"").as_bytes()][..], 1, "no id"),
            (&[&b"{\"fds\":[\""[..], &b"\xff\xfe\"]}"[..]][..], 1, "no ContainerProcessState"),
        ] {
            let told = refused(pieces, files);
            assert!(told.contains(why), "{told:?} does not say {why:?}");
        }
    }

    #[test]
    fn descriptors_come_with_the_first_message_only() {
        let (here, there) = pair();
        let null = std::fs::File::open("/dev/null").unwrap();
        let (first, second) = WHOLE.as_bytes().split_at(20);
        let mut incoming = Incoming::default();
        put(&here, first, &[]);
        assert!(incoming.take(there.as_fd()).unwrap().is_none());
        put(&here, second, &[null.as_raw_fd()]);
        assert!(incoming.take(there.as_fd()).unwrap_err().contains("after the first message"));
    }

    #[test]
    fn neither_length_nor_patience_is_without_end() {
        let long = vec![b'x'; PIECE];
        let mut pieces = vec![&b"{\"fds\":[\""[..]];
        pieces.resize(LONGEST / PIECE + 2, &long);
        assert!(refused(&pieces, 1).contains("longer than a mebibyte"));
        let mut pieces = vec![&b"{\"fds\":[\""[..]];
        pieces.resize(MOST_PIECES + 2, b"}");
        assert!(refused(&pieces, 1).contains("too many pieces"));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        proptest::proptest!(|(bytes: Vec<u8>, at in 0..WHOLE.len())| {
            let _ = whole(&bytes);
            let mut broken = WHOLE.as_bytes().to_vec();
            broken.splice(at..at, bytes.iter().copied().take(4));
            let _ = whole(&broken);
            let mut braced = bytes;
            braced.insert(0, b'{');
            braced.push(b'}');
            let _ = whole(&braced);
        });
    }
}
