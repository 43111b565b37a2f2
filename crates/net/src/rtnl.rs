//! Links, addresses, routes and neighbours.
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::Ipv4Net;

use crate::config::Result;
use crate::netlink::{
    Buf, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, Socket, allow, as_text, as_u32, attr,
    attrs,
};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_OPERSTATE: u16 = 16;
const IF_OPER_UP: u8 = 6;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET_CONF: u16 = 1;
const IFF_UP: u32 = 1;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_TABLE: u16 = 15;
const RTAX_MTU: u16 = 2;
const RTNH_F_ONLINK: u32 = 4;
const RT_TABLE_MAIN: u8 = 254;
const RTN_UNICAST: u8 = 1;
const RTN_UNREACHABLE: u8 = 7;

/// Marks the routes made here (`ip route` shows it as `proto 107`).
pub(crate) const PROTOCOL: u8 = 107;

const READY_TRIES: u32 = 50;
const READY_PAUSE: std::time::Duration = std::time::Duration::from_millis(1);

/// `rp_filter` among the per-interface settings (linux/ip.h).
pub(crate) const CONF_RP_FILTER: u16 = 8;
/// `route_localnet`: packets from and to loopback addresses may use the link.
pub(crate) const CONF_ROUTE_LOCALNET: u16 = 26;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub index: u32,
    pub name: String,
    pub alias: String,
    pub mac: Vec<u8>,
    pub up: bool,
    /// Packets get through.
    pub ready: bool,
    pub mtu: u32,
}

pub(crate) type Mac = [u8; 6];

/// A veth pair: our end, and the pod's (or node's) in another namespace.
pub(crate) struct Veth<'a> {
    pub name: &'a str,
    pub alias: &'a str,
    pub mac: Option<Mac>,
    pub mtu: u32,
    pub peer_name: &'a str,
    pub peer_mac: Option<Mac>,
    pub peer_netns: BorrowedFd<'a>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Route {
    pub dst: Ipv4Net,
    pub unreachable: bool,
    pub via: Option<Ipv4Addr>,
    pub oif: Option<u32>,
    pub src: Option<Ipv4Addr>,
    pub metric: u32,
    pub mtu: Option<u32>,
    pub onlink: bool,
    /// Who made it: [`PROTOCOL`] when it was us.
    pub protocol: u8,
}

impl Route {
    pub(crate) fn to(dst: Ipv4Net) -> Route {
        Route {
            dst,
            unreachable: false,
            via: None,
            oif: None,
            src: None,
            metric: 0,
            mtu: None,
            onlink: false,
            protocol: PROTOCOL,
        }
    }
}

/// A routing socket of one network namespace.
pub(crate) struct Rtnl {
    socket: Socket,
}

impl Rtnl {
    /// In the calling thread's network namespace.
    pub(crate) fn open() -> Result<Rtnl> {
        Ok(Rtnl { socket: Socket::open(libc::NETLINK_ROUTE as isize)? })
    }

    pub(crate) fn links(&mut self) -> Result<Vec<Link>> {
        let mut buf = Buf::request(RTM_GETLINK, NLM_F_DUMP);
        ifinfo(&mut buf, 0, 0, 0);
        let answers = self.socket.query("cannot list links", buf)?;
        Ok(answers.iter().filter_map(|m| parse_link(&m.body)).collect())
    }

    pub(crate) fn link(&mut self, name: &str) -> Result<Option<Link>> {
        let mut buf = Buf::request(RTM_GETLINK, 0);
        ifinfo(&mut buf, 0, 0, 0);
        buf.attr_str(IFLA_IFNAME, name);
        match self.socket.query(&format!("cannot look at link {name}"), buf) {
            Ok(answers) => Ok(answers.first().and_then(|m| parse_link(&m.body))),
            Err(crate::config::Error::Kernel { errno: libc::ENODEV, .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    pub(crate) fn create_veth(&mut self, veth: &Veth<'_>) -> Result<()> {
        let mut buf = Buf::request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
        ifinfo(&mut buf, 0, 0, 0);
        buf.attr_str(IFLA_IFNAME, veth.name);
        buf.attr_u32(IFLA_MTU, veth.mtu);
        if let Some(mac) = veth.mac {
            buf.attr(IFLA_ADDRESS, &mac);
        }
        buf.nest(IFLA_LINKINFO, |info| {
            info.attr_str(IFLA_INFO_KIND, "veth");
            info.nest(IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |peer| {
                    ifinfo(peer, 0, 0, 0);
                    peer.attr_str(IFLA_IFNAME, veth.peer_name);
                    peer.attr_u32(IFLA_MTU, veth.mtu);
                    peer.attr_u32(IFLA_NET_NS_FD, veth.peer_netns.as_raw_fd() as u32);
                    if let Some(mac) = veth.peer_mac {
                        peer.attr(IFLA_ADDRESS, &mac);
                    }
                });
            });
        });
        self.socket.execute(&format!("cannot create the veth link {}", veth.name), buf)?;
        self.set_alias(veth.name, veth.alias)
    }

    pub(crate) fn create_bridge(&mut self, name: &str, alias: &str) -> Result<()> {
        self.create(name, "bridge", |_| {})?;
        self.set_alias(name, alias)
    }

    pub(crate) fn create_vxlan(
        &mut self,
        name: &str,
        alias: &str,
        (vni, port): (u32, u16),
        local: Ipv4Addr,
        (mac, mtu): (Mac, u32),
    ) -> Result<()> {
        const VXLAN_ID: u16 = 1;
        const VXLAN_LOCAL: u16 = 4;
        const VXLAN_LEARNING: u16 = 7;
        const VXLAN_PORT: u16 = 15;
        let mut buf = Buf::request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
        ifinfo(&mut buf, 0, 0, 0);
        buf.attr_str(IFLA_IFNAME, name);
        buf.attr_u32(IFLA_MTU, mtu);
        buf.attr(IFLA_ADDRESS, &mac);
        buf.nest(IFLA_LINKINFO, |info| {
            info.attr_str(IFLA_INFO_KIND, "vxlan");
            info.nest(IFLA_INFO_DATA, |data| {
                data.attr_u32(VXLAN_ID, vni);
                data.attr(VXLAN_LOCAL, &local.octets());
                data.attr(VXLAN_LEARNING, &[0]);
                data.attr(VXLAN_PORT, &port.to_be_bytes());
            });
        });
        self.socket.execute(&format!("cannot create the VXLAN link {name}"), buf)?;
        self.set_alias(name, alias)
    }

    fn create(&mut self, name: &str, kind: &str, fill: impl FnOnce(&mut Buf)) -> Result<()> {
        let mut buf = Buf::request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
        ifinfo(&mut buf, 0, 0, 0);
        buf.attr_str(IFLA_IFNAME, name);
        buf.nest(IFLA_LINKINFO, |info| {
            info.attr_str(IFLA_INFO_KIND, kind);
            info.nest(IFLA_INFO_DATA, fill);
        });
        self.socket.execute(&format!("cannot create the {kind} link {name}"), buf)
    }

    fn set_alias(&mut self, name: &str, alias: &str) -> Result<()> {
        let mut buf = Buf::request(RTM_SETLINK, 0);
        ifinfo(&mut buf, 0, 0, 0);
        buf.attr_str(IFLA_IFNAME, name);
        buf.attr(IFLA_IFALIAS, alias.as_bytes());
        self.socket.execute(&format!("cannot label link {name}"), buf)
    }

    pub(crate) fn set_up(&mut self, index: u32) -> Result<()> {
        let mut buf = Buf::request(RTM_SETLINK, 0);
        ifinfo(&mut buf, index, IFF_UP, IFF_UP);
        self.socket.execute(&format!("cannot bring up link {index}"), buf)
    }

    /// Waits until a link whose other end has just come up lets packets through. Until the kernel
    /// has noticed, it would drop them; to ask (since Linux 6.8) makes it notice.
    pub(crate) fn await_ready(&mut self, name: &str) -> Result<()> {
        for _ in 0..READY_TRIES {
            if self.link(name)?.is_none_or(|link| link.ready) {
                return Ok(());
            }
            std::thread::sleep(READY_PAUSE);
        }
        Ok(())
    }

    pub(crate) fn set_master(&mut self, index: u32, master: u32) -> Result<()> {
        let mut buf = Buf::request(RTM_SETLINK, 0);
        ifinfo(&mut buf, index, 0, 0);
        buf.attr_u32(IFLA_MASTER, master);
        self.socket.execute(&format!("cannot put link {index} on bridge {master}"), buf)
    }

    /// Sets some of the link's IPv4 settings (the ones under `/proc/sys/net/ipv4/conf`).
    pub(crate) fn set_conf(&mut self, index: u32, settings: &[(u16, u32)]) -> Result<()> {
        let mut buf = Buf::request(RTM_SETLINK, 0);
        ifinfo(&mut buf, index, 0, 0);
        buf.nest(IFLA_AF_SPEC, |families| {
            families.nest(libc::AF_INET as u16, |inet| {
                inet.nest(IFLA_INET_CONF, |conf| {
                    for (setting, value) in settings {
                        conf.attr_u32(*setting, *value);
                    }
                });
            });
        });
        self.socket.execute(&format!("cannot set IPv4 settings of link {index}"), buf)
    }

    /// Spares a point-to-point link the traffic of IPv6 addresses that nobody uses.
    pub(crate) fn no_ipv6_address(&mut self, index: u32) {
        const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
        const ADDR_GEN_MODE_NONE: u8 = 1;
        let mut buf = Buf::request(RTM_SETLINK, 0);
        ifinfo(&mut buf, index, 0, 0);
        buf.nest(IFLA_AF_SPEC, |families| {
            families.nest(libc::AF_INET6 as u16, |inet6| {
                inet6.attr(IFLA_INET6_ADDR_GEN_MODE, &[ADDR_GEN_MODE_NONE]);
            });
        });
        // A kernel without IPv6 refuses this, and needs it not.
        let _ = self.socket.execute("cannot set the IPv6 address mode", buf);
    }

    /// A link that is not there is as wanted.
    pub(crate) fn delete_link(&mut self, name: &str) -> Result<()> {
        let mut buf = Buf::request(RTM_DELLINK, 0);
        ifinfo(&mut buf, 0, 0, 0);
        buf.attr_str(IFLA_IFNAME, name);
        let done = self.socket.execute(&format!("cannot delete link {name}"), buf);
        allow(done, &[libc::ENODEV])
    }

    pub(crate) fn add_address(&mut self, index: u32, address: Ipv4Net) -> Result<()> {
        let buf = address_request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, index, address);
        let done = self.socket.execute(&format!("cannot add {address} to link {index}"), buf);
        allow(done, &[libc::EEXIST])
    }

    pub(crate) fn delete_address(&mut self, index: u32, address: Ipv4Net) -> Result<()> {
        let buf = address_request(RTM_DELADDR, 0, index, address);
        let done = self.socket.execute(&format!("cannot remove {address} from {index}"), buf);
        allow(done, &[libc::EADDRNOTAVAIL, libc::ENODEV])
    }

    /// All IPv4 addresses with their links' indexes.
    pub(crate) fn addresses(&mut self) -> Result<Vec<(u32, Ipv4Net)>> {
        const IFA_ADDRESS: u16 = 1;
        const IFA_LOCAL: u16 = 2;
        let mut buf = Buf::request(RTM_GETADDR, NLM_F_DUMP);
        buf.put(&[libc::AF_INET as u8, 0, 0, 0]);
        buf.u32(0);
        let parse = |body: &[u8]| {
            let tail = body.get(8..)?;
            let ip = attr(tail, IFA_LOCAL).or_else(|| attr(tail, IFA_ADDRESS))?;
            let net = Ipv4Net::new(as_ip(ip)?, *body.get(1)?).ok()?;
            Some((as_u32(&body[4..])?, net))
        };
        let answers = self.socket.query("cannot list addresses", buf)?;
        Ok(answers.iter().filter_map(|m| parse(&m.body)).collect())
    }

    /// Adds the route, or changes the one with the same destination and metric.
    pub(crate) fn set_route(&mut self, route: &Route) -> Result<()> {
        let buf = route_request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route);
        self.socket.execute(&format!("cannot set the route to {}", route.dst), buf)
    }

    pub(crate) fn delete_route(&mut self, route: &Route) -> Result<()> {
        let buf = route_request(RTM_DELROUTE, 0, route);
        let done = self.socket.execute(&format!("cannot delete the route to {}", route.dst), buf);
        allow(done, &[libc::ESRCH])
    }

    /// The IPv4 routes of the main table.
    pub(crate) fn routes(&mut self) -> Result<Vec<Route>> {
        let mut buf = Buf::request(RTM_GETROUTE, NLM_F_DUMP);
        buf.put(&[libc::AF_INET as u8, 0, 0, 0, 0, 0, 0, 0]);
        buf.u32(0);
        let answers = self.socket.query("cannot list routes", buf)?;
        Ok(answers.iter().filter_map(|m| parse_route(&m.body)).collect())
    }

    /// How a packet to `ip` would go now; `None` if it would not.
    pub(crate) fn lookup(&mut self, ip: Ipv4Addr) -> Result<Option<Route>> {
        let mut buf = Buf::request(RTM_GETROUTE, 0);
        buf.put(&[libc::AF_INET as u8, 32, 0, 0, 0, 0, 0, 0]);
        buf.u32(0);
        buf.attr(RTA_DST, &ip.octets());
        match self.socket.query(&format!("cannot look up the route to {ip}"), buf) {
            Ok(answers) => Ok(answers.first().and_then(|m| parse_route(&m.body))),
            Err(crate::config::Error::Kernel {
                errno: libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EINVAL | libc::EACCES,
                ..
            }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// A permanent neighbour: `ip` on that link has that hardware address.
    pub(crate) fn set_neighbour(&mut self, index: u32, ip: Ipv4Addr, mac: Mac) -> Result<()> {
        let buf = neighbour(index, libc::AF_INET as u8, 0, ip, mac, NLM_F_REPLACE);
        self.socket.execute(&format!("cannot set the neighbour {ip} on link {index}"), buf)
    }

    /// Where the tunnel finds a hardware address.
    pub(crate) fn set_tunnel_end(&mut self, index: u32, mac: Mac, at: Ipv4Addr) -> Result<()> {
        const NTF_SELF: u8 = 2;
        let buf = neighbour(index, libc::AF_BRIDGE as u8, NTF_SELF, at, mac, NLM_F_REPLACE);
        self.socket.execute(&format!("cannot set the tunnel end {at} on link {index}"), buf)
    }
}

fn ifinfo(buf: &mut Buf, index: u32, flags: u32, change: u32) {
    buf.put(&[libc::AF_UNSPEC as u8, 0, 0, 0]);
    buf.u32(index);
    buf.u32(flags);
    buf.u32(change);
}

fn neighbour(index: u32, family: u8, flags: u8, ip: Ipv4Addr, mac: Mac, request: u16) -> Buf {
    const NUD_PERMANENT: u16 = 0x80;
    const NDA_DST: u16 = 1;
    const NDA_LLADDR: u16 = 2;
    let mut buf = Buf::request(RTM_NEWNEIGH, NLM_F_CREATE | request);
    buf.put(&[family, 0, 0, 0]);
    buf.u32(index);
    buf.put(&NUD_PERMANENT.to_ne_bytes());
    buf.put(&[flags, 0]);
    buf.attr(NDA_DST, &ip.octets());
    buf.attr(NDA_LLADDR, &mac);
    buf
}

fn address_request(kind: u16, flags: u16, index: u32, address: Ipv4Net) -> Buf {
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    let mut buf = Buf::request(kind, flags);
    buf.put(&[libc::AF_INET as u8, address.prefix_len(), 0, 0]);
    buf.u32(index);
    buf.attr(IFA_LOCAL, &address.addr().octets());
    buf.attr(IFA_ADDRESS, &address.addr().octets());
    buf
}

fn route_request(kind: u16, flags: u16, route: &Route) -> Buf {
    let mut buf = Buf::request(kind, flags);
    let route_kind = if route.unreachable { RTN_UNREACHABLE } else { RTN_UNICAST };
    let scope = match route.via.is_some() || route.unreachable {
        true => libc::RT_SCOPE_UNIVERSE,
        false => libc::RT_SCOPE_LINK,
    };
    // A deletion names no scope: the kernel takes any.
    let scope = if kind == RTM_DELROUTE { libc::RT_SCOPE_NOWHERE } else { scope };
    buf.put(&[libc::AF_INET as u8, route.dst.prefix_len(), 0, 0]);
    buf.put(&[RT_TABLE_MAIN, route.protocol, scope, route_kind]);
    buf.u32(if route.onlink { RTNH_F_ONLINK } else { 0 });
    buf.attr(RTA_DST, &route.dst.network().octets());
    if let Some(via) = route.via {
        buf.attr(RTA_GATEWAY, &via.octets());
    }
    if let Some(oif) = route.oif {
        buf.attr_u32(RTA_OIF, oif);
    }
    if let Some(src) = route.src {
        buf.attr(RTA_PREFSRC, &src.octets());
    }
    if route.metric != 0 {
        buf.attr_u32(RTA_PRIORITY, route.metric);
    }
    if let Some(mtu) = route.mtu {
        buf.nest(RTA_METRICS, |metrics| metrics.attr_u32(RTAX_MTU, mtu));
    }
    buf
}

fn parse_link(body: &[u8]) -> Option<Link> {
    let mut link = Link {
        index: as_u32(body.get(4..)?)?,
        up: as_u32(body.get(8..)?)? & IFF_UP != 0,
        ready: false,
        name: String::new(),
        alias: String::new(),
        mac: Vec::new(),
        mtu: 0,
    };
    for (kind, value) in attrs(body.get(16..)?) {
        match kind {
            IFLA_IFNAME => link.name = as_text(value),
            IFLA_IFALIAS => link.alias = as_text(value),
            IFLA_ADDRESS => link.mac = value.to_vec(),
            IFLA_MTU => link.mtu = as_u32(value)?,
            IFLA_OPERSTATE => link.ready = value == [IF_OPER_UP],
            _ => {}
        }
    }
    Some(link)
}

fn parse_route(body: &[u8]) -> Option<Route> {
    let header = body.get(..12)?;
    let (length, table, kind) = (header[1], header[4], header[7]);
    let mut route = Route::to(Ipv4Net::new(Ipv4Addr::UNSPECIFIED, length).ok()?);
    route.protocol = header[5];
    route.unreachable = kind == RTN_UNREACHABLE;
    let mut table = u32::from(table);
    for (kind, value) in attrs(&body[12..]) {
        match kind {
            RTA_DST => route.dst = Ipv4Net::new(as_ip(value)?, length).ok()?,
            RTA_GATEWAY => route.via = as_ip(value),
            RTA_OIF => route.oif = as_u32(value),
            RTA_PREFSRC => route.src = as_ip(value),
            RTA_PRIORITY => route.metric = as_u32(value)?,
            RTA_METRICS => route.mtu = attr(value, RTAX_MTU).and_then(as_u32),
            RTA_TABLE => table = as_u32(value)?,
            _ => {}
        }
    }
    (table == u32::from(RT_TABLE_MAIN)).then_some(route)
}

fn as_ip(bytes: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))
}
