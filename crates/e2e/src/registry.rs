//! A registry on loopback that gives its one image only to whom it knows.
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

pub const USER: &str = "user";
pub const PASSWORD: &str = "secret";
/// "user:secret" as basic authentication says it.
const AUTHORIZATION: &str = "Basic dXNlcjpzZWNyZXQ=";

/// Serves until the test ends.
pub struct Registry {
    pub port: u16,
    /// Of the image's manifest.
    pub digest: String,
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

impl Registry {
    /// With `team/app:v1`: the program at `program` as `/bin/app`.
    pub fn start(program: &Path) -> Self {
        let mut layer = tar::Builder::new(Vec::new());
        layer.append_path_with_name(program, "bin/app").unwrap();
        let layer = layer.into_inner().unwrap();
        let config = json!({
            "os": "linux",
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "config": {"Entrypoint": ["/bin/app"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        });
        let config = config.to_string().into_bytes();
        let described = |bytes: &[u8]| json!({"digest": digest(bytes), "size": bytes.len()});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": described(&config), "layers": [described(&layer)],
        });
        let manifest = manifest.to_string().into_bytes();
        let own = digest(&manifest);
        let mut blobs: HashMap<String, Vec<u8>> =
            [layer, config, manifest].into_iter().map(|blob| (digest(&blob), blob)).collect();
        blobs.insert("v1".to_owned(), blobs[&own].clone());
        let blobs = Arc::new(blobs);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let blobs = blobs.clone();
                std::thread::spawn(move || drop(answer(stream, &blobs)));
            }
        });
        Self { port, digest: own }
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn answer(mut stream: TcpStream, blobs: &HashMap<String, Vec<u8>>) -> Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let Some(first) = lines.next() else { return Ok(()) };
    let first = first?;
    // A TLS hello is no text: the client then tries without.
    let Some(path) = first.split(' ').nth(1) else { return Ok(()) };
    let mut known = false;
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        known |= line.split_once(':').is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("authorization") && value.trim() == AUTHORIZATION
        });
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    let nothing = Vec::new();
    let (status, extra, body) = match (known, blobs.get(name)) {
        (false, _) => ("401 Unauthorized", "WWW-Authenticate: Basic realm=\"test\"\r\n", &nothing),
        (true, Some(blob)) => ("200 OK", "", blob),
        (true, None) => ("404 Not Found", "", &nothing),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{extra}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(body)
}
