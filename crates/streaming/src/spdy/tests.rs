use super::frame::*;
use super::*;
use tokio::io::{DuplexStream, ReadHalf, WriteHalf};

/// The client's side, for tests.
pub(crate) struct Client {
    pub(crate) from: ReadHalf<DuplexStream>,
    pub(crate) to: WriteHalf<DuplexStream>,
    deflate: Deflate,
    inflate: Inflate,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Reply(u32),
    Data(u32, Vec<u8>, bool),
    Other(u16, Vec<u8>),
}

impl Client {
    pub(crate) fn new(io: DuplexStream) -> Self {
        let (from, to) = tokio::io::split(io);
        Self { from, to, deflate: Deflate::default(), inflate: Inflate::default() }
    }
    pub(crate) async fn open(&mut self, id: u32, headers: &[(&str, &str)]) {
        let block = self.deflate.block(headers).unwrap();
        self.to.write_all(&syn_stream(id, 0, &block)).await.unwrap();
    }
    pub(crate) async fn send(&mut self, id: u32, fin: bool, body: &[u8]) {
        self.to.write_all(&data(id, fin, body)).await.unwrap();
    }
    pub(crate) async fn next(&mut self) -> Got {
        let mut head = [0; 8];
        self.from.read_exact(&mut head).await.unwrap();
        match Head::parse(head).unwrap() {
            Head::Data { stream, flags, len } => {
                let mut body = vec![0; len];
                self.from.read_exact(&mut body).await.unwrap();
                Got::Data(stream, body, flags & FLAG_FIN != 0)
            }
            Head::Control { kind, len, .. } => {
                let mut body = vec![0; len];
                self.from.read_exact(&mut body).await.unwrap();
                if kind == SYN_REPLY {
                    assert_eq!(self.inflate.block(&body[4..]).unwrap(), []);
                    return Got::Reply(stream_id(&body).unwrap());
                }
                Got::Other(kind, body)
            }
        }
    }
}

#[test]
fn the_dictionary_is_the_protocols() {
    let dictionary = headers::dictionary();
    assert_eq!(dictionary.len(), 1423);
    // The Adler-32 sum that every SPDY/3 zlib stream names in its second word.
    let (mut a, mut b) = (1u32, 0u32);
    for byte in dictionary {
        a = (a + u32::from(*byte)) % 65521;
        b = (b + a) % 65521;
    }
    assert_eq!(b << 16 | a, 0xe3c6_a7c2);
    let block = Deflate::default().block(&[("a", "b")]).unwrap();
    assert_eq!(block[2..6], [0xe3, 0xc6, 0xa7, 0xc2]);
}

#[test]
fn header_blocks_share_one_stream() {
    let (mut deflate, mut inflate) = (Deflate::default(), Inflate::default());
    let long = "x".repeat(30_000);
    for n in 0..20 {
        let value = n.to_string();
        let headers = [("streamtype", "data"), ("requestid", value.as_str()), ("pad", &long)];
        let got = inflate.block(&deflate.block(&headers).unwrap()).unwrap();
        let want = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(got, want);
    }
}

#[test]
fn bad_header_blocks_are_errors() {
    assert!(Inflate::default().block(&[1, 2, 3, 4]).is_err());
    let (mut deflate, mut inflate) = (Deflate::default(), Inflate::default());
    let huge = "y".repeat(100_000);
    let error = inflate.block(&deflate.block(&[("pad", &huge)]).unwrap());
    assert_eq!(error, Err("headers are too large"));
    let mut block = Deflate::default().block(&[("name", "value")]).unwrap();
    block.truncate(block.len() / 2);
    assert!(Inflate::default().block(&block).is_err());
}

#[tokio::test]
async fn streams_carry_data_and_pings_are_answered() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let mut connection = serve(near);
    let mut client = Client::new(far);
    client.open(1, &[("streamtype", "stdin")]).await;
    assert_eq!(client.next().await, Got::Reply(1));
    client.to.write_all(&ping(5)).await.unwrap();
    assert_eq!(client.next().await, Got::Other(PING, vec![0, 0, 0, 5]));
    client.send(1, false, b"he").await;
    client.send(1, true, b"llo").await;
    let mut stream = connection.streams.recv().await.unwrap();
    assert_eq!(stream.header("streamtype"), Some("stdin"));
    assert_eq!(stream.reader.next().await.unwrap(), "he");
    assert_eq!(stream.reader.next().await.unwrap(), "llo");
    assert_eq!(stream.reader.next().await, None);
    stream.writer.write(Bytes::from_static(b"out")).await.unwrap();
    stream.writer.finish().await.unwrap();
    assert_eq!(client.next().await, Got::Data(1, b"out".to_vec(), false));
    assert_eq!(client.next().await, Got::Data(1, Vec::new(), true));
    client.to.write_all(&goaway()).await.unwrap();
    connection.closed.wait().await;
}

#[tokio::test]
async fn a_stream_number_that_goes_back_ends_the_connection() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let mut connection = serve(near);
    let mut client = Client::new(far);
    client.open(3, &[]).await;
    client.open(1, &[]).await;
    connection.closed.wait().await;
}

#[tokio::test]
async fn large_data_is_cut_into_pieces() {
    let (near, far) = tokio::io::duplex(1 << 20);
    let mut connection = serve(near);
    let mut client = Client::new(far);
    client.open(1, &[]).await;
    client.next().await;
    client.send(1, true, &vec![9; 100_000]).await;
    let mut stream = connection.streams.recv().await.unwrap();
    let mut total = 0;
    while let Some(piece) = stream.reader.next().await {
        assert!(piece.len() <= CHUNK);
        total += piece.len();
    }
    assert_eq!(total, 100_000);
}
