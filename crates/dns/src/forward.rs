//! Asks the machine's own name servers what the cluster does not know.
//!
//! Bounded in questions under way, in time and in what is remembered.
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;

/// Questions that may be under way; more are refused.
const QUESTIONS: usize = 512;
const TRY_TIME: Duration = Duration::from_secs(2);
const TRIES: usize = 3;
const CACHE_ENTRIES: usize = 4096;
const CACHE_SECONDS_MAX: u32 = 30;
/// What fits a datagram without fragments anywhere (DNS flag day 2020).
pub(crate) const DATAGRAM_BYTES: u16 = 1232;
/// For local use (RFC 6891): marks our own questions, so that one that comes back is known.
const LOOP_OPTION: u16 = 65_312;

pub(crate) struct Forwarder {
    upstreams: Vec<SocketAddr>,
    permits: Semaphore,
    cache: Mutex<HashMap<CacheKey, Kept>>,
    /// This server's mark.
    mark: [u8; 8],
}

type CacheKey = (Query, bool, bool);

struct Kept {
    message: Message,
    since: Instant,
    seconds: u32,
}

impl Forwarder {
    pub(crate) fn new(upstreams: Vec<SocketAddr>) -> Forwarder {
        Forwarder {
            upstreams,
            permits: Semaphore::new(QUESTIONS),
            cache: Mutex::default(),
            mark: rand::random(),
        }
    }

    /// Whether a question is one of our own that an upstream has sent back to us.
    pub(crate) fn is_loop(&self, request: &Message) -> bool {
        let option = request.edns.as_ref().and_then(|e| e.option(EdnsCode::from(LOOP_OPTION)));
        matches!(option, Some(EdnsOption::Unknown(_, mark)) if *mark == self.mark)
    }

    /// The upstream's answer; the caller puts in its own id and size.
    pub(crate) async fn ask(&self, request: &Message, query: &Query) -> Message {
        let failed = |code| Message::error_msg(request.metadata.id, OpCode::Query, code);
        if self.upstreams.is_empty() || self.is_loop(request) {
            return failed(ResponseCode::Refused);
        }
        let dnssec = request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        let unchecked = request.metadata.checking_disabled;
        let key = (query.clone(), dnssec, unchecked);
        if let Some(known) = self.recall(&key) {
            return known;
        }
        let Ok(_permit) = self.permits.try_acquire() else {
            return failed(ResponseCode::ServFail);
        };
        let mut question = Message::query();
        question.metadata.recursion_desired = request.metadata.recursion_desired;
        question.metadata.checking_disabled = unchecked;
        question.add_query(query.clone());
        let mut edns = Edns::new();
        edns.set_max_payload(DATAGRAM_BYTES).set_version(0).set_dnssec_ok(dnssec);
        edns.options_mut().insert(EdnsOption::Unknown(LOOP_OPTION, self.mark.to_vec()));
        question.set_edns(edns);
        // Start anywhere, so that a dead upstream does not slow every question.
        let start = rand::random_range(0..self.upstreams.len());
        for attempt in 0..TRIES {
            let upstream = self.upstreams[(start + attempt) % self.upstreams.len()];
            question.metadata.id = rand::random();
            let asked = tokio::time::timeout(TRY_TIME, exchange(upstream, &question)).await;
            let Ok(Some(answer)) = asked else { continue };
            if answer.metadata.response_code == ResponseCode::ServFail && attempt + 1 < TRIES {
                continue;
            }
            self.keep(key, &answer);
            return answer;
        }
        failed(ResponseCode::ServFail)
    }

    fn recall(&self, key: &CacheKey) -> Option<Message> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = cache.get(key)?;
        let age = u32::try_from(kept.since.elapsed().as_secs()).unwrap_or(u32::MAX);
        if age >= kept.seconds {
            cache.remove(key);
            return None;
        }
        let mut message = kept.message.clone();
        for record in message.answers.iter_mut().chain(&mut message.authorities) {
            record.decrement_ttl(age);
        }
        Some(message)
    }

    fn keep(&self, key: CacheKey, answer: &Message) {
        let seconds = lifetime(answer).min(CACHE_SECONDS_MAX);
        if seconds == 0 {
            return;
        }
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHE_ENTRIES {
            cache.retain(|_, kept| kept.since.elapsed().as_secs() < u64::from(kept.seconds));
            if cache.len() >= CACHE_ENTRIES {
                cache.clear();
            }
        }
        cache.insert(key, Kept { message: answer.clone(), since: Instant::now(), seconds });
    }
}

/// How long an answer may be kept; none for failures.
fn lifetime(answer: &Message) -> u32 {
    match answer.metadata.response_code {
        ResponseCode::NoError if !answer.answers.is_empty() => {
            answer.answers.iter().map(|record| record.ttl).min().unwrap_or(0)
        }
        ResponseCode::NoError | ResponseCode::NXDomain => {
            let soa = answer.authorities.iter().find_map(|record| match &record.data {
                RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
                _ => None,
            });
            soa.unwrap_or(0)
        }
        _ => 0,
    }
}

async fn exchange(upstream: SocketAddr, question: &Message) -> Option<Message> {
    let bytes = question.to_vec().ok()?;
    let any: IpAddr = match upstream {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await.ok()?;
    socket.connect(upstream).await.ok()?;
    socket.send(&bytes).await.ok()?;
    let mut buf = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buf).await.ok()?;
        let Some(answer) = matching(&buf[..length], question) else { continue };
        if !answer.metadata.truncation {
            return Some(answer);
        }
        // Too long for a datagram.
        return exchange_tcp(upstream, &bytes, question).await.or(Some(answer));
    }
}

async fn exchange_tcp(upstream: SocketAddr, bytes: &[u8], question: &Message) -> Option<Message> {
    let mut stream = TcpStream::connect(upstream).await.ok()?;
    stream.write_u16(u16::try_from(bytes.len()).ok()?).await.ok()?;
    stream.write_all(bytes).await.ok()?;
    let length = stream.read_u16().await.ok()?;
    let mut buf = vec![0; usize::from(length)];
    stream.read_exact(&mut buf).await.ok()?;
    matching(&buf, question)
}

/// The answer in `bytes`, if it is one to that question.
fn matching(bytes: &[u8], question: &Message) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let same = answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.queries == question.queries;
    same.then_some(answer)
}
