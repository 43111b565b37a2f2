//! Namespaces, pods and little servers.
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use net::{HostPort, NetConfig, NodeNet, Vxlan};
use nix::sched::{CloneFlags, setns, unshare};

pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// A network namespace that lives as long as this.
pub(crate) struct Ns {
    file: File,
}

impl Ns {
    pub(crate) fn new() -> Ns {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        Ns { file: std::thread::scope(|s| s.spawn(make).join().unwrap()) }
    }

    pub(crate) fn open(path: &Path) -> Ns {
        Ns { file: File::open(path).unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// Runs something on a thread inside.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&self.file, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        std::thread::scope(|s| s.spawn(inside).join().unwrap())
    }

    /// What `addr` answers to a TCP client in here.
    pub(crate) fn ask(&self, addr: SocketAddrV4) -> std::io::Result<String> {
        self.run(|| ask(addr))
    }

    pub(crate) fn ask_udp(&self, addr: SocketAddrV4) -> std::io::Result<String> {
        self.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            ask_udp(&socket, addr)
        })
    }

    /// Serves TCP and UDP in here: the answer is `<name> <client address>`.
    pub(crate) fn serve(&self, name: &str, port: u16) {
        let (tcp, udp) = self.run(|| {
            let any = (Ipv4Addr::UNSPECIFIED, port);
            (TcpListener::bind(any).unwrap(), UdpSocket::bind(any).unwrap())
        });
        let tcp_name = name.to_owned();
        std::thread::spawn(move || {
            while let Ok((mut stream, client)) = tcp.accept() {
                let _ = write!(stream, "{tcp_name} {}", client.ip());
            }
        });
        let udp_name = name.to_owned();
        std::thread::spawn(move || {
            let mut buf = [0; 64];
            while let Ok((_, client)) = udp.recv_from(&mut buf) {
                let _ = udp.send_to(format!("{udp_name} {}", client.ip()).as_bytes(), client);
            }
        });
    }
}

pub(crate) fn ask(addr: SocketAddrV4) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::V4(addr), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

pub(crate) fn ask_udp(socket: &UdpSocket, addr: SocketAddrV4) -> std::io::Result<String> {
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(addr)?;
    socket.send(b"?")?;
    let mut buf = [0; 64];
    let length = socket.recv(&mut buf)?;
    Ok(String::from_utf8_lossy(&buf[..length]).into_owned())
}

/// A node in a namespace of its own, with nothing but a loopback link.
pub(crate) struct Node {
    pub ns: Ns,
    pub net: Arc<NodeNet>,
    pub dir: tempfile::TempDir,
}

pub(crate) fn config(dir: &Path, name: &str, node_ip: &str, pods: &str) -> NetConfig {
    NetConfig {
        cluster_id: "t1".to_owned(),
        node: name.to_owned(),
        node_ip: node_ip.parse().unwrap(),
        pod_cidr: pods.parse().unwrap(),
        cluster_cidr: "10.244.0.0/16".parse().unwrap(),
        service_cidr: "10.96.0.0/16".parse().unwrap(),
        vxlan: Vxlan::default(),
        mtu: 1500,
        data_dir: dir.to_owned(),
    }
}

impl Node {
    pub(crate) fn alone() -> Node {
        Node::start(Ns::new(), "node-1", "127.0.0.1", "10.244.0.0/24")
    }

    pub(crate) fn start(ns: Ns, name: &str, node_ip: &str, pods: &str) -> Node {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), name, node_ip, pods);
        let net = Arc::new(ns.run(|| NodeNet::start(config)).unwrap());
        Node { ns, net, dir }
    }

    /// A pod that answers with its name on ports 80 (TCP and UDP).
    pub(crate) fn pod(&self, name: &str, ports: &[HostPort]) -> Pod {
        let ns = Ns::new();
        let got = self.net.attach_pod(name, &ns.path(), ports).unwrap();
        let IpAddr::V4(ip) = got.ip else { panic!("not IPv4: {}", got.ip) };
        ns.serve(name, 80);
        Pod { ns, ip, name: name.to_owned() }
    }
}

pub(crate) struct Pod {
    pub ns: Ns,
    pub ip: Ipv4Addr,
    pub name: String,
}

pub(crate) fn at(ip: &str, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(ip.parse().unwrap(), port)
}

/// Tests that change the network need root.
pub(crate) fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root to make network namespaces");
    }
    root
}
