//! `sendto(2)` and its relatives: data, sometimes with a receiver's address.
//!
//! Only `sendto` shows in a register whether there is an address. Where it leads out of the sandbox the kernel finds no
//! way; the sentry looks on, to be able to name the host. It need not judge socket files here either: only datagram
//! sockets send to a name, and there are none while sockets in grants are judged.

use super::address::Address;
use super::connect::tell;
use crate::args::{Fd, Flags, Size, SockLen, UserPtr};
use crate::guest::Guest;
use crate::table::Verdict::Notify;
use crate::table::{Check, Op, Test};

crate::syscalls! {
    /// Sends data, perhaps to an address. An address out of reach is named at the end of the run.
    sendto(socket: Fd, buffer: UserPtr, size: Size, flags: Flags, address: UserPtr, length: SockLen) Network Default Observe(send_seen) when ADDRESSED {
        HostNetwork => Allow,
        Container => Allow,
    };
    /// Sends a message.
    /// Limit: a destination out of reach is not named at the end of the run.
    sendmsg(socket: Fd, message: UserPtr, flags: Flags) Network Judge Allow;
    /// Sends several messages.
    /// Limit: a destination out of reach is not named at the end of the run.
    sendmmsg(socket: Fd, messages: UserPtr, count: Uint, flags: Flags) Network Default Allow;
}

const ADDRESSED: &[Check] = &[Check { all: &[Test { arg: 4, op: Op::NotEqual(0) }], then: Notify }];

fn send_seen(guest: &dyn Guest, _: Fd, _: UserPtr, _: Size, _: Flags, address: UserPtr, length: SockLen) {
    if let Ok(address) = Address::copy(guest, address, length) {
        tell(guest, "sendto", &address);
    }
}

#[cfg(test)]
mod tests {
    use crate::fake::FakeGuest;

    use super::*;

    #[test]
    fn a_receiver_out_of_reach_is_named() {
        let guest = FakeGuest::default();
        let bytes = [&2_u16.to_ne_bytes()[..], &53_u16.to_be_bytes(), &[8, 8, 8, 8], &[0; 8]].concat();
        let address = guest.put(&bytes);
        send_seen(&guest, Fd(3), UserPtr(0), Size(0), Flags(0), address, SockLen(16));
        send_seen(&guest, Fd(3), UserPtr(0), Size(0), Flags(0), address, SockLen(u32::MAX));
        let [denial] = guest.denials().try_into().expect("one of the two has an address");
        assert_eq!((denial.call, denial.what.as_str()), ("sendto", "8.8.8.8:53"));
    }
}
