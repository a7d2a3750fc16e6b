//! `--publish`: a port of the host leads to one of the container. A process accepts each connection, opens
//! one to the container, and copies the bytes.
//!
//! Unlike a rule for addresses (dnat) it needs no sysctl, also works from 127.0.0.1 and for an ordinary user,
//! fails if the port is in use, and leaves nothing. But the container sees the bridge's address, not
//! the client's.

use super::helper::Helper;
use crate::capabilities::{self, Capabilities};
use crate::explain::{call, step};
use crate::{Result, sys};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen};
use nix::sys::socket::{setsockopt, socket, sockopt::ReuseAddr};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::{io, str::FromStr, thread, time::Duration};

/// A port of the host, and the container's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Port {
    host: SocketAddrV4,
    inside: u16,
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let words = text.split(':').collect::<Vec<_>>();
        let (address, ports) = match words[..] {
            [host, inside] => (Some(Ipv4Addr::LOCALHOST), [host, inside]),
            [address, host, inside] => (address.parse().ok(), [host, inside]),
            _ => (None, [""; 2]),
        };
        let port = |text: &str| text.parse().ok().filter(|port| *port != 0);
        let parsed = address.zip(port(ports[0])).zip(port(ports[1]));
        let ((address, host), inside) =
            parsed.ok_or("a published port looks like 8080:80 or 0.0.0.0:8080:80")?;
        let host = SocketAddrV4::new(address, host);
        Ok(Self { host, inside })
    }
}

impl Port {
    /// A socket that listens at the host's port.
    ///
    /// # Errors
    /// `EADDRINUSE` if another program does; `EACCES` for an ordinary user below 1024.
    pub(super) fn listen(&self) -> Result<OwnedFd> {
        let (address, port) = (self.host.ip(), self.host.port());
        step("", &format!("listens at {}", self.host), || {
            let text = "socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_IP)";
            let (kind, flags) = (SockType::Stream, SockFlag::SOCK_CLOEXEC);
            let socket = call(text, || socket(AddressFamily::Inet, kind, flags, None))?;
            let number = socket.as_raw_fd();
            // Connections that have ended do not keep the port in use.
            let text = format_args!("setsockopt({number}, SOL_SOCKET, SO_REUSEADDR, [1], 4)");
            call(text, || setsockopt(&socket, ReuseAddr, &true))?;
            let text = format_args!(
                "bind({number}, {{sa_family=AF_INET, sin_port=htons({port}), \
                 sin_addr=inet_addr(\"{address}\")}}, 16)"
            );
            let in_use = format!(
                "another program listens at {}: choose another port",
                self.host
            );
            let privileged = "below 1024 a port needs root: choose another one, such as 8080";
            let absent = "the host does not have this address: ip addr";
            call(text, || bind(number, &SockaddrIn::from(self.host))).map_err(|error| {
                let error = error.hint_on(Errno::EADDRINUSE, in_use);
                let error = error.hint_on(Errno::EACCES, privileged);
                error.hint_on(Errno::EADDRNOTAVAIL, absent)
            })?;
            let text = format_args!("listen({number}, 128)");
            call(text, || listen(&socket, Backlog::new(128)?))?;
            Ok(socket)
        })
    }

    /// Forks the process that serves it.
    pub(super) fn serve(&self, listener: OwnedFd, container: Ipv4Addr) -> Result<Helper> {
        let inside = SocketAddrV4::new(container, self.inside);
        let shell = format_args!(
            "socat TCP-LISTEN:{},bind={},reuseaddr,fork TCP:{inside}",
            self.host.port(),
            self.host.ip()
        );
        step(shell, "connections come in", || {
            Helper::fork(|| {
                capabilities::reduce_to(Capabilities::NONE)?;
                sys::close_all_but(&listener);
                serve(&TcpListener::from(listener), inside)
            })
        })
    }
}

/// A thread for each connection. This process never calls the functions that need a single thread.
fn serve(listener: &TcpListener, inside: SocketAddrV4) -> ! {
    loop {
        match listener.accept() {
            Ok((outside, _)) => {
                let connect = move || connect(&outside, inside);
                // Without memory for a thread the connection is closed.
                let _ = thread::Builder::new().spawn(connect);
            }
            // Too many open files, say: accept(2). Others will be closed.
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Copies in both directions, until both sides have finished.
fn connect(outside: &TcpStream, inside: SocketAddrV4) -> io::Result<()> {
    let inside = &TcpStream::connect(inside)?;
    thread::scope(|both| {
        both.spawn(|| copy(outside, inside));
        copy(inside, outside);
    });
    Ok(())
}

fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        let port = |text: &str| text.parse::<Port>().ok();
        let expected = |address: [u8; 4]| Port {
            host: SocketAddrV4::new(address.into(), 8080),
            inside: 80,
        };
        assert_eq!(port("8080:80"), Some(expected([127, 0, 0, 1])));
        assert_eq!(port("0.0.0.0:8080:80"), Some(expected([0; 4])));
        for bad in [
            "",
            "80",
            ":80",
            "0:80",
            "80:0",
            "65536:80",
            "x:80",
            "host:8080:80",
            "1:2:3:4",
        ] {
            assert_eq!(port(bad), None, "{bad}");
        }
    }
}
