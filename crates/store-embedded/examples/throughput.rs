//! Durable writes per second: `cargo run --release -p store-embedded --example throughput [DIR]`.
//! Values of 1 KB; each client waits for its write before the next.
use bytes::Bytes;
use std::{
    env,
    error::Error,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use store::{Expect, Store};
use store_embedded::{Embedded, Options};

const PERIOD: Duration = Duration::from_secs(3);

fn main() -> Result<(), Box<dyn Error>> {
    let base = env::args_os().nth(1).map_or_else(env::temp_dir, PathBuf::from);
    let runtime = tokio::runtime::Runtime::new()?;
    for clients in [1, 64, 256] {
        let dir = base.join(format!("throughput-{}-{clients}", std::process::id()));
        let result = runtime.block_on(measure(&dir, clients));
        std::fs::remove_dir_all(&dir)?;
        let (mut latencies, elapsed) = result?;
        latencies.sort();
        let at = |share: usize| latencies[(latencies.len() - 1) * share / 100];
        println!(
            "{clients:>3} clients: {:>6.0} writes/s  p50 {:?}  p99 {:?}  (n={})",
            latencies.len() as f64 / elapsed.as_secs_f64(),
            at(50),
            at(99),
            latencies.len(),
        );
    }
    Ok(())
}

type Measured = (Vec<Duration>, Duration);

async fn measure(dir: &std::path::Path, clients: usize) -> Result<Measured, Box<dyn Error>> {
    let store = Arc::new(Embedded::open(dir, Options::default())?);
    let start = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                for index in 0.. {
                    let began = Instant::now();
                    if began - start > PERIOD {
                        break;
                    }
                    let key = format!("/registry/things/client-{client}/{index}");
                    store.put(&key, Bytes::from(vec![b'x'; 1024]), Expect::Absent).await?;
                    latencies.push(began.elapsed());
                }
                Ok::<_, store::Error>(latencies)
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await??);
    }
    Ok((all, start.elapsed()))
}
