//! The calls on sockets that the standard library does not have.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Connections that wait to be accepted.
const BACKLOG: libc::c_int = 1024;

fn set_option<T>(socket: RawFd, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the call reads `value`, of the size it is told.
    let answer = unsafe {
        libc::setsockopt(
            socket,
            level,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// From now on closing the descriptor resets the connection and drops what is unsent.
pub(crate) fn reset_on_close(stream: &TcpStream) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // Without it the connection ends in order instead: less clear to the peer, but ended.
    let _ = set_option(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, &linger);
}

/// Takes a congestion control that does not pace, if the machine's default does.
///
/// BBR spreads what it sends over time, by a timer for every burst: made for long ways with shallow buffers, and between the nodes
/// of one network nearly half of all CPU time for long payloads. What neither paces nor asks the network for help is taken instead, as
/// the kernel allows; a default of another kind is the machine's owner's choice, and stays. A listener's connections have its own.
fn avoid_pacing(socket: RawFd) {
    let paces = congestion_control(socket).is_ok_and(|name| name.starts_with(b"bbr"));
    if paces {
        // Refused, it works all the same, with more CPU time for a payload.
        let _ =
            set_congestion_control(socket, b"cubic").or_else(|_| set_congestion_control(socket, b"reno\0"));
    }
}

fn set_congestion_control(socket: RawFd, name: &[u8; 5]) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_CONGESTION, name)
}

fn congestion_control(socket: RawFd) -> io::Result<[u8; 16]> {
    let mut name = [0; 16];
    let mut length = name.len() as libc::socklen_t;
    // SAFETY: the call writes at most `length` bytes of `name`.
    let answer = unsafe {
        libc::getsockopt(
            socket,
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            name.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(name)
}

fn open_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    // SAFETY: no memory is involved; the answer is checked and then owned.
    unsafe {
        let socket = libc::socket(
            family,
            libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
            0,
        );
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        avoid_pacing(socket);
        Ok(OwnedFd::from_raw_fd(socket))
    }
}

/// Hands the kernel's form of an address to `call`.
fn with_address(
    address: SocketAddr,
    call: impl FnOnce(*const libc::sockaddr, libc::socklen_t) -> i32,
) -> io::Result<()> {
    let answer = match address {
        SocketAddr::V4(address) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(address.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            call((&raw const raw).cast(), size_of_val(&raw) as libc::socklen_t)
        }
        SocketAddr::V6(address) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: address.ip().octets(),
                },
                sin6_scope_id: address.scope_id(),
            };
            call((&raw const raw).cast(), size_of_val(&raw) as libc::socklen_t)
        }
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Listens at an address.
pub(crate) fn bind(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = open_socket(address)?;
    let descriptor = socket.as_raw_fd();
    set_option(descriptor, libc::SOL_SOCKET, libc::SO_REUSEADDR, &1i32)?;
    if reuse_port {
        set_option(descriptor, libc::SOL_SOCKET, libc::SO_REUSEPORT, &1i32)?;
    }
    // SAFETY: `with_address` gives a valid address and its length.
    with_address(address, |raw, length| unsafe {
        libc::bind(descriptor, raw, length)
    })?;
    // SAFETY: no memory is involved.
    if unsafe { libc::listen(descriptor, BACKLOG) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(TcpListener::from(socket))
}

/// Begins to connect; the socket is writable when that has ended, one way or the other.
pub(crate) fn begin_connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = open_socket(address)?;
    let descriptor = socket.as_raw_fd();
    // SAFETY: `with_address` gives a valid address and its length.
    let begun = with_address(address, |raw, length| unsafe {
        libc::connect(descriptor, raw, length)
    });
    match begun {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => {
            return Err(error);
        }
        _ => {}
    }
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn message(pieces: &[libc::iovec]) -> libc::msghdr {
    // SAFETY: all zeroes is a valid message header (no name, no control, no pieces).
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = pieces.as_ptr().cast_mut();
    message.msg_iovlen = pieces.len() as _;
    message
}

/// Sends pieces in one call; how many bytes the kernel took.
///
/// # Safety
/// Every piece names bytes that may be read during the call.
pub(crate) unsafe fn send_gathered(socket: RawFd, pieces: &[libc::iovec]) -> io::Result<usize> {
    let message = message(pieces);
    // SAFETY: the caller vouches for the pieces; the call only reads them.
    let answer = unsafe { libc::sendmsg(socket, &message, libc::MSG_NOSIGNAL) };
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}

/// Receives into pieces, one after the other, in one call; how many bytes came. Zero: the peer has ended.
///
/// # Safety
/// Every piece names bytes that may be written during the call, and nobody else uses.
pub(crate) unsafe fn receive_scattered(socket: RawFd, pieces: &[libc::iovec]) -> io::Result<usize> {
    let mut message = message(pieces);
    // SAFETY: the caller vouches for the pieces.
    let answer = unsafe { libc::recvmsg(socket, &mut message, 0) };
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}

/// Receives into one buffer; how many bytes came. Zero: the peer has ended.
pub(crate) fn receive(socket: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is valid for its length and borrowed exclusively.
    let answer = unsafe { libc::recv(socket, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    //! Deliberate bugs these catch: the default kept, a listener's connections left with it.
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn no_socket_paces() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let paces = |socket: RawFd| congestion_control(socket).unwrap().starts_with(b"bbr");
        let listener = bind(address, false).unwrap();
        assert!(!paces(listener.as_raw_fd()));
        let ours = begin_connect(listener.local_addr().unwrap()).unwrap();
        assert!(!paces(ours.as_raw_fd()));
        let (theirs, _) = listener.accept().unwrap();
        assert!(!paces(theirs.as_raw_fd()));
        // A kernel without it refuses, and has nothing to take back.
        let paced = set_option(
            ours.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            b"bbr\0",
        );
        assert_eq!(paces(ours.as_raw_fd()), paced.is_ok());
        avoid_pacing(ours.as_raw_fd());
        assert!(!paces(ours.as_raw_fd()));
    }
}
