//! Servers that send back what they get.
use std::io::{self, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::thread;

use crate::{Outcome, at};

/// Connections at once; more wait.
pub(crate) const MAX_CONNECTIONS: usize = 512;

/// The port after `--port` or `-p`, or from `$PORT`.
pub(crate) fn port(args: &[String], default: u16) -> Result<u16, String> {
    let mut port = std::env::var("PORT").ok().and_then(|p| p.parse().ok()).unwrap_or(default);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let value = match arg.as_str() {
            "--port" | "-p" => args.next().cloned(),
            other => other.strip_prefix("--port=").map(str::to_owned),
        };
        let value = value.ok_or_else(|| format!("unknown argument {arg:?}"))?;
        port = value.parse().map_err(|_| format!("{value:?} is no port"))?;
    }
    Ok(port)
}

/// Listens on every address of both families, or of IPv4 where there is no IPv6.
pub(crate) fn listen(port: u16) -> Result<TcpListener, String> {
    TcpListener::bind(("::", port))
        .or_else(|_| TcpListener::bind(("0.0.0.0", port)))
        .map_err(at(format!("cannot listen on port {port}")))
}

/// Serves each connection in a thread of its own.
pub(crate) fn each_connection(
    listener: &TcpListener,
    serve: impl Fn(std::net::TcpStream) -> io::Result<()> + Clone + Send + 'static,
) -> Outcome {
    let slots = std::sync::Arc::new((std::sync::Mutex::new(0_usize), std::sync::Condvar::new()));
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            // A connection that was given up again, or no descriptor left for the moment.
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(e) => return Err(at("accept")(e)),
        };
        let _ = stream.set_nodelay(true);
        let (used, freed) = &*slots;
        let used = used.lock().expect("no holder panics");
        let mut used =
            freed.wait_while(used, |used| *used >= MAX_CONNECTIONS).expect("no holder panics");
        *used += 1;
        drop(used);
        let (serve, slots) = (serve.clone(), slots.clone());
        let started = thread::Builder::new().stack_size(128 << 10).spawn(move || {
            // What a client does wrong ends its own connection only.
            let _ = serve(stream);
            *slots.0.lock().expect("no holder panics") -= 1;
            slots.1.notify_one();
        });
        started.map_err(at("cannot start a thread"))?;
    }
}

pub(crate) fn tcp(args: &[String]) -> Outcome {
    let port = port(args, 7)?;
    let listener = listen(port)?;
    println!("tcp-echo on port {port}");
    each_connection(&listener, |mut stream| {
        let mut buffer = [0_u8; 16 * 1024];
        loop {
            let n = stream.read(&mut buffer)?;
            if n == 0 {
                return Ok(());
            }
            stream.write_all(&buffer[..n])?;
        }
    })
}

pub(crate) fn udp(args: &[String]) -> Outcome {
    let port = port(args, 7)?;
    let socket = UdpSocket::bind(("::", port))
        .or_else(|_| UdpSocket::bind(("0.0.0.0", port)))
        .map_err(at(format!("cannot listen on port {port}")))?;
    println!("udp-echo on port {port}");
    let mut buffer = vec![0_u8; 65_536];
    loop {
        let Ok((n, from)) = socket.recv_from(&mut buffer) else { continue };
        // A sender that cannot be reached any more is no reason to stop.
        let _ = socket.send_to(&buffer[..n], from);
    }
}
