//! `cargo xtask pairs`: random objects of every kind, in JSON and protobuf as upstream's Go types
//! write them, read and written by `schema` both ways. The seed is printed, and can be given.
use crate::{shell, tools};
use anyhow::{Context, Result};
use std::time::SystemTime;

/// Objects of each kind.
const EACH: &str = "5";

pub(crate) fn run(args: &[String]) -> Result<()> {
    if !tools::has_go() {
        println!("skipped: fresh pairs of JSON and protobuf need `go`, which is not there");
        return Ok(());
    }
    let seed = match args.first() {
        Some(seed) => seed.parse::<u64>().with_context(|| format!("{seed} is no seed"))?,
        None => SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()),
    };
    let pairs = shell::target().join("pairs.jsonl");
    let file = std::fs::File::create(&pairs)
        .with_context(|| format!("cannot write {}", pairs.display()))?;
    println!("fresh pairs of every kind; the same ones again: cargo xtask pairs {seed}");
    let folder = shell::root().join("tools/apifacts");
    let mut go = tools::go(&folder, &["run", ".", "fuzzpairs", EACH, &seed.to_string()]);
    shell::run(go.stdout(file))?;
    let test = ["test", "--quiet", "--package", "schema", "--test", "corpus"];
    shell::run(shell::cargo(&test).env("KYBERN_PAIRS", &pairs))
}
