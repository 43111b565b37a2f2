//! The rows: one file per subject, one line per row.
mod api;
mod bind;
mod core;
mod endpoints;
mod list;
mod node;
mod plane;
mod size;
mod watch;

use crate::plane::Plane;
use crate::{Bench, plane as planes};
use anyhow::{Context, Result};
use std::future::Future;
use std::pin::Pin;

type Pending<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    run: Run,
}

enum Run {
    /// Of Kybern's alone.
    Own(fn(&mut Bench) -> Pending<'_>),
    /// Of a control plane: each gets a fresh one, and with a peer it is run against that too.
    Plane(for<'a> fn(&'a mut Bench, &'a Plane) -> Pending<'a>),
}

pub(crate) const ALL: &[Row] = &[
    Row { name: "size", about: "size of the binary", run: Run::Own(|b| Box::pin(size::size(b))) },
    Row {
        name: "start",
        about: "`kybern up` to node Ready and DNS answering, first and again",
        run: Run::Own(|b| Box::pin(node::start(b))),
    },
    Row {
        name: "idle",
        about: "memory and processor time of an idle cluster's processes",
        run: Run::Own(|b| Box::pin(node::idle(b))),
    },
    Row {
        name: "pods",
        about: "pod create to Running seen by a watcher, alone and 100 at once; memory per pod",
        run: Run::Own(|b| Box::pin(node::pods(b))),
    },
    Row {
        name: "plane",
        about: "control plane alone: start, and memory and processor time when idle",
        run: Run::Plane(|b, p| Box::pin(plane::plane(b, p))),
    },
    Row {
        name: "create",
        about: "durable creates of 1 kB ConfigMaps by 1, 64 and 256 clients; gets",
        run: Run::Plane(|b, p| Box::pin(api::create(b, p))),
    },
    Row {
        name: "list",
        about: "10,000 pods created by 32 clients; lists of them, JSON and protobuf",
        run: Run::Plane(|b, p| Box::pin(list::list(b, p))),
    },
    Row {
        name: "watch",
        about: "1,000 watches on one object: update to delivery",
        run: Run::Plane(|b, p| Box::pin(watch::watch(b, p))),
    },
    Row {
        name: "bind",
        about: "pods created and bound per second at 1,000 hollow nodes",
        run: Run::Plane(|b, p| Box::pin(bind::bind(b, p))),
    },
    Row {
        name: "core",
        about: "scheduling decisions of the pure core alone, at 5,000 nodes",
        run: Run::Own(|b| Box::pin(core::core(b))),
    },
    Row {
        name: "endpoints",
        about: "change of an endpoint to kernel in force at 10,000 Services, 100,000 endpoints",
        run: Run::Own(|b| Box::pin(endpoints::endpoints(b))),
    },
    Row {
        name: "build",
        about: "a cold release build (only with --build, or by name)",
        run: Run::Own(|b| Box::pin(size::build(b))),
    },
];

impl Row {
    pub(crate) async fn run(&self, bench: &mut Bench) -> Result<()> {
        let run = match self.run {
            Run::Own(run) => return run(bench).await,
            Run::Plane(run) => run,
        };
        let plane = planes::kybern(bench).await?;
        run(bench, &plane).await.with_context(|| plane.logs())?;
        drop(plane);
        if let Some(binaries) = bench.peer.clone() {
            let plane = planes::upstream(bench, &binaries).await?;
            run(bench, &plane).await.with_context(|| plane.logs())?;
        }
        Ok(())
    }
}
