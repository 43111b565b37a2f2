//! Compiles the suite, its runner, kubectl and the programs of the suite's images, from the Go
//! module proxy. Go's own cache makes a second build quick.
use super::{Cache, module};
use crate::{job, tools};
use anyhow::{Result, ensure};
use std::process::Command;
use std::time::{Duration, Instant};

/// From nothing it takes about ten minutes on two processors.
const BOUND: Duration = Duration::from_secs(3600);
const VERSION: &str = "v1.37.2";

/// What is compiled, by package, and the name that it gets.
const PROGRAMS: [(&str, &str); 7] = [
    ("ginkgo", "github.com/onsi/ginkgo/v2/ginkgo"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    ("agnhost", "k8s.io/kubernetes/test/images/agnhost"),
    ("sample-apiserver", "k8s.io/sample-apiserver"),
    ("pause", "./pause"),
    ("setuid", "./setuid"),
    ("sh", "./sh"),
];

pub(crate) fn go(args: &[&str]) -> Command {
    let mut command = tools::go(&module(), args);
    command.env("GOFLAGS", "-mod=mod -buildvcs=false");
    command
}

pub(crate) fn run(cache: &Cache) -> Result<()> {
    ensure!(within(cache, Instant::now() + BOUND)?, "not built within {} s", BOUND.as_secs());
    Ok(())
}

/// False if the deadline came first; Go's cache keeps what was compiled until then.
pub(crate) fn within(cache: &Cache, deadline: Instant) -> Result<bool> {
    let stamp = stamp();
    let suite = ("e2e.test", "k8s.io/kubernetes/test/e2e");
    for (name, package) in std::iter::once(suite).chain(PROGRAMS) {
        let began = Instant::now();
        let verb: &[&str] = if name == suite.0 { &["test", "-c"] } else { &["build"] };
        let mut command = go(&[verb, &["-ldflags", &stamp, "-o"]].concat());
        command.arg(cache.program(name)).arg(package);
        println!("+ go {} {package}", verb.join(" "));
        let ended = job::run(&mut command, deadline, None)?;
        if ended.interrupted {
            return Err(job::Interrupted.into());
        }
        if ended.late {
            return Ok(false);
        }
        ensure!(ended.status.success(), "building {name} failed: {}", ended.status);
        println!("{name}: {} s", began.elapsed().as_secs());
    }
    Ok(true)
}

/// The version that the suite and kubectl say of themselves.
fn stamp() -> String {
    let variable =
        |name: &str, value: &str| format!("-X k8s.io/component-base/version.{name}={value}");
    let mut numbers = VERSION.trim_start_matches('v').split('.');
    let major = variable("gitMajor", numbers.next().unwrap_or_default());
    let minor = variable("gitMinor", numbers.next().unwrap_or_default());
    format!("-s -w {} {major} {minor}", variable("gitVersion", VERSION))
}
