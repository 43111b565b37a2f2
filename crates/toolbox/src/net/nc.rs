//! `nc`: standard input and output over a connection.
use std::io::{self, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::resolver;
use crate::common::{Done, Fault, Options, about, duration, number, usage};

/// `nc [-zvu] [-w SECONDS] HOST PORT` and `nc -l [-u] [-p] PORT`.
pub(crate) fn main(args: &[String]) -> Done {
    let options = Options::parse(args, "zvuklnw:p:", &[])?;
    let limit = options.value('w').map(duration).transpose()?.flatten();
    if options.has('l') {
        let port = match (options.number::<u16>('p')?, options.rest.as_slice()) {
            (Some(port), []) => port,
            (None, [port] | [_, port]) => number(port)?,
            _ => return Err(usage("usage: nc -l [-u] [-p] PORT")),
        };
        return if options.has('u') { listen_udp(port, limit) } else { listen(port, limit) };
    }
    let [host, port] = options.rest.as_slice() else {
        return Err(usage("usage: nc [-zvu] [-w SECONDS] HOST PORT"));
    };
    let port: u16 = number(port)?;
    if options.has('u') {
        return talk_udp(host, port, limit);
    }
    let patience = limit.unwrap_or(Duration::from_secs(120));
    let stream = match resolver::connect(host, port, patience) {
        Ok(stream) => stream,
        Err(_) if options.has('z') && !options.has('v') => return Ok(1),
        Err(e) => return Err(e),
    };
    if options.has('v') {
        eprintln!("{host} ({}) open", stream.peer_addr()?);
    }
    if options.has('z') {
        return Ok(0);
    }
    exchange(&stream, limit)
}

fn listen(port: u16, limit: Option<Duration>) -> Done {
    let listener = TcpListener::bind(("0.0.0.0", port)).map_err(about("listen"))?;
    let (stream, _) = listener.accept()?;
    exchange(&stream, limit)
}

fn listen_udp(port: u16, limit: Option<Duration>) -> Done {
    let socket = UdpSocket::bind(("0.0.0.0", port)).map_err(about("listen"))?;
    let mut first = [0; 1];
    // The first datagram says who the other side is.
    let (_, peer) = socket.peek_from(&mut first)?;
    socket.connect(peer)?;
    datagrams(&socket, limit)
}

fn talk_udp(host: &str, port: u16, limit: Option<Duration>) -> Done {
    let address = resolver::socket_addresses(host, port)?
        .into_iter()
        .next()
        .ok_or_else(|| Fault::new(format!("cannot resolve '{host}'")))?;
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    datagrams(&socket, limit)
}

/// Which of input and network has something; neither when the time is over.
fn ready(
    input: Option<&impl AsFd>,
    net: &impl AsFd,
    limit: Option<Duration>,
) -> io::Result<(bool, bool)> {
    let timeout = match limit {
        Some(limit) => PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX),
        None => PollTimeout::NONE,
    };
    let mut fds = vec![PollFd::new(net.as_fd(), PollFlags::POLLIN)];
    fds.extend(input.map(|input| PollFd::new(input.as_fd(), PollFlags::POLLIN)));
    loop {
        match poll(&mut fds, timeout) {
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
            Ok(_) => {
                let input = fds.get(1).and_then(PollFd::any).unwrap_or(false);
                return Ok((input, fds[0].any().unwrap_or(false)));
            }
        }
    }
}

fn exchange(stream: &TcpStream, limit: Option<Duration>) -> Done {
    let stdin = crate::common::stdin()?;
    let mut input = Some(&stdin);
    let mut out = crate::common::out()?;
    let mut buffer = vec![0; 16 << 10];
    loop {
        let (typed, arrived) = ready(input, stream, limit)?;
        if !typed && !arrived {
            return Ok(0);
        }
        if typed {
            match nix::unistd::read(&stdin, &mut buffer)? {
                0 => {
                    input = None;
                    let _ = stream.shutdown(Shutdown::Write);
                }
                n => (&mut &*stream).write_all(&buffer[..n])?,
            }
        }
        if arrived {
            let n = nix::unistd::read(stream, &mut buffer)?;
            if n == 0 {
                return Ok(0);
            }
            out.write_all(&buffer[..n])?;
            out.flush()?;
        }
    }
}

fn datagrams(socket: &UdpSocket, limit: Option<Duration>) -> Done {
    let stdin = crate::common::stdin()?;
    let mut input = Some(&stdin);
    let mut out = crate::common::out()?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let (typed, arrived) = ready(input, socket, limit)?;
        if !typed && !arrived {
            return Ok(0);
        }
        if typed {
            match nix::unistd::read(&stdin, &mut buffer)? {
                0 => input = None,
                n => drop(socket.send(&buffer[..n])?),
            }
        }
        if arrived {
            let n = socket.recv(&mut buffer)?;
            out.write_all(&buffer[..n])?;
            out.flush()?;
        }
    }
}
