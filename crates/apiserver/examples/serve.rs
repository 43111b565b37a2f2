//! The API server alone on loopback, over a store in memory: `serve DIR PORT` writes
//! `DIR/kubeconfig` and serves until it is ended.
use apiserver::{Config, Server, Table};
use std::path::PathBuf;
use std::sync::Arc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().ok_or("usage: serve DIR PORT")?);
    let port: u16 = args.next().ok_or("usage: serve DIR PORT")?.parse()?;
    let pki = Arc::new(pki::Pki::load_or_create(&dir.join("pki"))?);
    let local = "127.0.0.1".parse()?;
    let profile = pki::Profile::server("kube-apiserver", &["localhost", "kubernetes"], &[local]);
    let serving = pki.certificate("apiserver", &profile)?;
    let admin = pki::Profile::client("kubernetes-admin", &["system:masters"]);
    let admin = pki.certificate("admin", &admin)?;
    let base64 = |text: &str| {
        use base64::{Engine, engine::general_purpose::STANDARD};
        STANDARD.encode(text)
    };
    let kubeconfig = value::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "kybern",
        "clusters": [{ "name": "kybern", "cluster": {
            "server": format!("https://127.0.0.1:{port}"),
            "certificate-authority-data": base64(pki.ca.cert_pem()),
        }}],
        "users": [{ "name": "admin", "user": {
            "client-certificate-data": base64(&admin.cert_pem),
            "client-key-data": base64(&admin.key_pem),
        }}],
        "contexts": [{ "name": "kybern", "context": { "cluster": "kybern", "user": "admin" } }],
    });
    pki::write_secret(&dir.join("kubeconfig"), kubeconfig.to_string().as_bytes())?;
    let tls = apiserver::tls(&serving.cert_pem, &serving.key_pem, pki.ca.cert_pem())?;
    let store = Arc::new(store::mem::Mem::default());
    let server = Server::new(Config::new(store, pki, (local, port)), Table::built_in()).await?;
    let listener = tokio::net::TcpListener::bind((local, port)).await?;
    println!("serving");
    apiserver::serve(server, listener, tls).await;
    Ok(())
}
