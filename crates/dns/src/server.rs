//! The UDP and TCP sides of the server.
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};
use rand::seq::SliceRandom;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::forward::{DATAGRAM_BYTES, Forwarder};
use crate::zone::Zone;
use crate::{DnsConfig, Error};

const CONNECTIONS: usize = 256;
const CONNECTION_IDLE: Duration = Duration::from_secs(10);
/// Without EDNS (RFC 1035).
const PLAIN_DATAGRAM_BYTES: u16 = 512;
/// Aliases followed for one question.
const ALIASES: usize = 8;

/// A running server; it stops when this is dropped.
pub struct Server {
    zone: Arc<Zone>,
    addresses: Vec<SocketAddr>,
    _tasks: JoinSet<()>,
}

struct Shared {
    zone: Arc<Zone>,
    forwarder: Forwarder,
    connections: Semaphore,
}

impl Server {
    pub async fn start(config: DnsConfig) -> Result<Server, Error> {
        let zone = Arc::new(Zone::new(&config.domain, config.networks.clone())?);
        // An upstream that is the cluster itself would only ask us again.
        let ours = |upstream: &SocketAddr| {
            config.bind.contains(upstream)
                || matches!(upstream.ip(), IpAddr::V4(ip)
                    if config.networks.iter().any(|net| net.contains(&ip)))
        };
        let upstreams = config.upstreams.iter().copied().filter(|u| !ours(u)).collect();
        let shared = Arc::new(Shared {
            zone: zone.clone(),
            forwarder: Forwarder::new(upstreams),
            connections: Semaphore::new(CONNECTIONS),
        });
        let mut tasks = JoinSet::new();
        let mut addresses = Vec::new();
        for address in config.bind {
            let failed = |source| Error::Bind { address, source };
            let tcp = TcpListener::bind(address).await.map_err(failed)?;
            // With port 0 both get the same one.
            let address = tcp.local_addr().map_err(failed)?;
            let udp = UdpSocket::bind(address).await.map_err(failed)?;
            addresses.push(address);
            tasks.spawn(serve_udp(shared.clone(), Arc::new(udp)));
            tasks.spawn(serve_tcp(shared.clone(), tcp));
        }
        Ok(Server { zone, addresses, _tasks: tasks })
    }

    pub fn zone(&self) -> Arc<Zone> {
        self.zone.clone()
    }

    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

async fn serve_udp(shared: Arc<Shared>, socket: Arc<UdpSocket>) {
    let mut buf = vec![0; usize::from(u16::MAX)];
    loop {
        // An error here is about one client that has gone.
        let Ok((length, client)) = socket.recv_from(&mut buf).await else { continue };
        let Some(request) = parse(&buf[..length]) else { continue };
        let room = request.edns.as_ref().map_or(PLAIN_DATAGRAM_BYTES, |edns| {
            edns.max_payload().clamp(PLAIN_DATAGRAM_BYTES, DATAGRAM_BYTES)
        });
        match shared.answer_now(&request) {
            Some(response) => {
                if let Some(bytes) = encode(&response, room) {
                    let _ = socket.send_to(&bytes, client).await;
                }
            }
            None => {
                let (shared, socket) = (shared.clone(), socket.clone());
                tokio::spawn(async move {
                    let response = shared.answer(&request).await;
                    if let Some(bytes) = encode(&response, room) {
                        let _ = socket.send_to(&bytes, client).await;
                    }
                });
            }
        }
    }
}

async fn serve_tcp(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: let others finish.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            // More connections than there is room for are closed at once.
            if let Ok(_permit) = shared.connections.try_acquire() {
                let _ = connection(&shared, stream).await;
            }
        });
    }
}

async fn connection(shared: &Shared, mut stream: TcpStream) -> std::io::Result<()> {
    let mut buf = Vec::new();
    loop {
        let read = async {
            let length = stream.read_u16().await?;
            buf.resize(usize::from(length), 0);
            stream.read_exact(&mut buf).await
        };
        match tokio::time::timeout(CONNECTION_IDLE, read).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return Ok(()),
        }
        let Some(request) = parse(&buf) else { return Ok(()) };
        let response = shared.answer(&request).await;
        let Some(bytes) = encode(&response, u16::MAX) else { return Ok(()) };
        let mut framed = (bytes.len() as u16).to_be_bytes().to_vec();
        framed.extend_from_slice(&bytes);
        match tokio::time::timeout(CONNECTION_IDLE, stream.write_all(&framed)).await {
            Ok(written) => written?,
            Err(_) => return Ok(()),
        }
    }
}

/// A question, or something malformed that deserves an answer; `None` deserves none.
fn parse(bytes: &[u8]) -> Option<Message> {
    match Message::from_vec(bytes) {
        Ok(message) if message.metadata.message_type == MessageType::Query => Some(message),
        _ => None,
    }
}

impl Shared {
    async fn answer(&self, request: &Message) -> Message {
        if let Some(response) = self.answer_now(request) {
            return response;
        }
        let mut response = respond(request);
        let Some(query) = request.queries.first() else { return response };
        let mut name = query.name().clone();
        for _ in 0..ALIASES {
            let Some(found) = self.zone.lookup(&name, query.query_type()) else {
                let asked = Query::query(name, query.query_type());
                let outside = self.forwarder.ask(request, &asked).await;
                response.answers.extend(outside.answers);
                response.authorities = outside.authorities;
                response.metadata.response_code = outside.metadata.response_code;
                response.metadata.authoritative = false;
                response.metadata.authentic_data = outside.metadata.authentic_data;
                return response;
            };
            let alias = found.alias.clone();
            self.fill(&mut response, found);
            match alias {
                Some(target) => name = target,
                None => return response,
            }
        }
        response
    }

    /// What can be said without asking anybody; `None` if that is needed.
    fn answer_now(&self, request: &Message) -> Option<Message> {
        let mut response = respond(request);
        let refuse = |mut response: Message, code| {
            response.metadata.response_code = code;
            Some(response)
        };
        if request.metadata.op_code != OpCode::Query {
            return refuse(response, ResponseCode::NotImp);
        }
        if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return refuse(response, ResponseCode::BADVERS);
        }
        let [query] = request.queries.as_slice() else {
            return refuse(response, ResponseCode::FormErr);
        };
        let transfer = [RecordType::AXFR, RecordType::IXFR].contains(&query.query_type());
        if query.query_class() != DNSClass::IN || transfer {
            return refuse(response, ResponseCode::Refused);
        }
        let found = self.zone.lookup(query.name(), query.query_type())?;
        if found.alias.is_some() {
            return None;
        }
        self.fill(&mut response, found);
        Some(response)
    }

    fn fill(&self, response: &mut Message, mut found: crate::zone::Answer) {
        response.metadata.authoritative = true;
        if found.answers.is_empty() {
            response.add_authority(self.zone.authority());
            if found.missing {
                response.metadata.response_code = ResponseCode::NXDomain;
            }
        }
        // Clients take the first address: every one should be first at times.
        found.answers.shuffle(&mut rand::rng());
        response.add_answers(found.answers);
        response.add_additionals(found.additionals);
    }
}

fn respond(request: &Message) -> Message {
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata = Metadata::response_from_request(&request.metadata);
    response.metadata.recursion_available = true;
    response.metadata.response_code = ResponseCode::NoError;
    response.add_queries(request.queries.iter().cloned());
    if let Some(asked) = &request.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(DATAGRAM_BYTES).set_version(0);
        edns.set_dnssec_ok(asked.flags().dnssec_ok);
        response.set_edns(edns);
    }
    response
}

/// At most `room` bytes; what does not fit is left out and the answer marked as truncated.
fn encode(response: &Message, room: u16) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(512);
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(room);
    if response.emit(&mut encoder).is_ok() {
        return Some(bytes);
    }
    response.truncate().to_vec().ok()
}
