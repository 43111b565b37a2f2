//! `tcp-echo` and `udp-echo`: what comes in goes back.
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::serve::{end_signals, readable};
use crate::common::{Done, Fault, number, reason, usage};

const CONNECTIONS_MAX: usize = 256;
const IDLE: Duration = Duration::from_secs(600);

fn port(args: &[String]) -> Result<u16, Fault> {
    match &args[1..] {
        [] => Ok(8080),
        [port] => number(port),
        [option, port] if option == "--port" || option == "-p" => number(port),
        _ => Err(usage(format!("usage: {} [PORT]", args[0]))),
    }
}

fn cannot_listen(port: u16) -> impl Fn(io::Error) -> Fault {
    move |e| Fault::new(format!("cannot listen on port {port}: {}", reason(&e)))
}

/// `tcp-echo [PORT]`.
pub(crate) fn tcp(args: &[String]) -> Done {
    let port = port(args)?;
    let listener = TcpListener::bind(("0.0.0.0", port)).map_err(cannot_listen(port))?;
    listener.set_nonblocking(true)?;
    let signals = end_signals()?;
    println!("echoing TCP on port {port}");
    let open = Arc::new(AtomicUsize::new(0));
    while readable(&listener, &signals)? {
        let Ok((stream, _)) = listener.accept() else { continue };
        if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let counted = Arc::clone(&open);
        let talk = move || {
            let _ = back(stream);
            counted.fetch_sub(1, Ordering::Relaxed);
        };
        if std::thread::Builder::new().stack_size(256 << 10).spawn(talk).is_err() {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
    Ok(0)
}

pub(super) fn back(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    let mut buffer = [0; 16 << 10];
    loop {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..n])?;
    }
}

/// `udp-echo [PORT]`.
pub(crate) fn udp(args: &[String]) -> Done {
    let port = port(args)?;
    let socket = UdpSocket::bind(("0.0.0.0", port)).map_err(cannot_listen(port))?;
    socket.set_nonblocking(true)?;
    let signals = end_signals()?;
    println!("echoing UDP on port {port}");
    let mut buffer = vec![0; 64 << 10];
    while readable(&socket, &signals)? {
        let Ok((n, peer)) = socket.recv_from(&mut buffer) else { continue };
        // A peer that cannot be answered is the peer's trouble.
        let _ = socket.send_to(&buffer[..n], peer);
    }
    Ok(0)
}
