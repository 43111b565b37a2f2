//! Compiles the suite, its runner, kubectl and the programs of the suite's images, from the Go
//! module proxy. Go's own cache makes a second build quick.
use super::{Cache, module};
use crate::{shell, tools};
use anyhow::Result;
use std::process::Command;
use std::time::Instant;

const VERSION: &str = "v1.37.2";

/// What is compiled, by package, and the name that it gets.
const PROGRAMS: [(&str, &str); 6] = [
    ("ginkgo", "github.com/onsi/ginkgo/v2/ginkgo"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    ("agnhost", "k8s.io/kubernetes/test/images/agnhost"),
    ("sample-apiserver", "k8s.io/sample-apiserver"),
    ("pause", "./pause"),
    ("setuid", "./setuid"),
];

pub(crate) fn go(args: &[&str]) -> Command {
    let mut command = tools::go(&module(), args);
    command.env("GOFLAGS", "-mod=mod -buildvcs=false");
    command
}

pub(crate) fn run(cache: &Cache) -> Result<()> {
    let suite = cache.program("e2e.test");
    let stamp = stamp();
    let began = Instant::now();
    let mut command = go(&["test", "-c", "-ldflags", &stamp, "-o"]);
    shell::run(command.arg(&suite).arg("k8s.io/kubernetes/test/e2e"))?;
    println!("e2e.test: {} s", began.elapsed().as_secs());
    for (name, package) in PROGRAMS {
        let began = Instant::now();
        let mut command = go(&["build", "-ldflags", &stamp, "-o"]);
        shell::run(command.arg(cache.program(name)).arg(package))?;
        println!("{name}: {} s", began.elapsed().as_secs());
    }
    Ok(())
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
