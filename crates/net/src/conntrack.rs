//! Forgets flows that would keep going to where a Service no longer sends them.
use std::net::{Ipv4Addr, SocketAddrV4};

use netplan::UdpFrontend;

use crate::config::Result;
use crate::netlink::{Buf, NLM_F_DUMP, Socket, allow, attr};

const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const FILTER: u16 = 25;
const NESTED: u16 = 0x8000;

/// One direction of a flow.
struct Tuple {
    src: SocketAddrV4,
    dst: SocketAddrV4,
    protocol: u8,
}

/// Removes the UDP flows that contradict `frontends`. TCP connections are left to end by
/// themselves, as everywhere in Kubernetes.
pub(crate) fn forget_stale(
    socket: &mut Socket,
    frontends: &[UdpFrontend],
    is_local: &dyn Fn(Ipv4Addr) -> bool,
) -> Result<usize> {
    let mut buf = request(GET, NLM_F_DUMP);
    // Lets the kernel leave out everything that is not UDP.
    buf.nest(TUPLE_ORIG, |tuple| tuple.nest(2, |proto| proto.attr(1, &[17])));
    buf.nest(FILTER, |filter| {
        filter.attr_u32(1, 1 << 3);
        filter.attr_u32(2, 0);
    });
    let flows = socket.query("cannot list UDP flows", buf)?;
    let mut forgotten = 0;
    for flow in &flows {
        let Some(tail) = flow.body.get(4..) else { continue };
        let Some(orig_bytes) = attr(tail, TUPLE_ORIG) else { continue };
        let reply = attr(tail, TUPLE_REPLY).and_then(parse);
        let (Some(orig), Some(reply)) = (parse(orig_bytes), reply) else { continue };
        if orig.protocol == 17 && frontends.iter().any(|f| stale(f, &orig, &reply, is_local)) {
            let mut buf = request(DELETE, 0);
            buf.attr(TUPLE_ORIG | NESTED, orig_bytes);
            allow(socket.execute("cannot forget a UDP flow", buf), &[libc::ENOENT])?;
            forgotten += 1;
        }
    }
    Ok(forgotten)
}

fn stale(
    frontend: &UdpFrontend,
    orig: &Tuple,
    reply: &Tuple,
    is_local: &dyn Fn(Ipv4Addr) -> bool,
) -> bool {
    let addressed = match frontend.ip {
        Some(ip) => ip == *orig.dst.ip(),
        None => is_local(*orig.dst.ip()),
    };
    addressed && frontend.port == orig.dst.port() && !frontend.backends.contains(&reply.src)
}

fn request(kind: u16, flags: u16) -> Buf {
    let mut buf = Buf::request(SUBSYSTEM << 8 | kind, flags);
    buf.put(&[libc::AF_INET as u8, 0, 0, 0]);
    buf
}

fn parse(tuple: &[u8]) -> Option<Tuple> {
    let (ip, proto) = (attr(tuple, 1)?, attr(tuple, 2)?);
    let address = |kind| Some(Ipv4Addr::from(<[u8; 4]>::try_from(attr(ip, kind)?).ok()?));
    let port = |kind| Some(u16::from_be_bytes(attr(proto, kind)?.try_into().ok()?));
    Some(Tuple {
        src: SocketAddrV4::new(address(1)?, port(2)?),
        dst: SocketAddrV4::new(address(2)?, port(3)?),
        protocol: *attr(proto, 1)?.first()?,
    })
}
