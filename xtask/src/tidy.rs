//! `cargo xtask tidy`: the parts of the style that a program can check.
use crate::shell;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const LINES_MAX: usize = 800;
const COLUMNS_MAX: usize = 100;

/// Who may depend on whom: a crate depends only on crates of strictly lower layers.
const LAYERS: &[(u8, &[&str])] = &[
    (0, &["value"]),
    (1, &["api", "store", "sys", "pki"]),
    (2, &["schema", "merge", "reconcile", "store-embedded", "store-etcd", "toolbox", "streaming"]),
    (3, &["registry", "controllers", "placement", "podlife", "netplan", "client"]),
    (4, &["informer", "authn", "authz", "admission", "volume", "images", "runtime", "dns", "join"]),
    (5, &["apiserver", "scheduler", "agent", "net", "nodeapi", "garbage"]),
    (6, &["cli"]),
    (7, &["kybern", "e2e", "bench", "xtask"]),
];

/// Dependencies within a layer that the table of layers cannot express, each with its reason.
const WITHIN: &[(&str, &str)] = &[
    ("merge", "schema"),    // patches are driven by the schema graph
    ("agent", "net"),       // the node's shell drives its network
    ("runtime", "images"),  // layers become root file systems
    ("admission", "authz"), // who may approve, sign or escalate
    ("agent", "nodeapi"),   // the node's shell serves its API
];

/// Crates that decide and never do: no async runtime, no client, no store.
const PURE: &[&str] = &[
    "api",
    "schema",
    "merge",
    "reconcile",
    "registry",
    "controllers",
    "placement",
    "podlife",
    "netplan",
];
const IMPURE_DEPENDENCIES: &[&str] = &["tokio", "hyper", "client", "store", "reqwest"];

pub(crate) fn run() -> Result<()> {
    let mut faults = Vec::new();
    for path in tracked_files()? {
        if path.extension().is_some_and(|extension| extension == "rs") {
            check_file(&path, &mut faults)?;
        }
    }
    check_layers(&mut faults)?;
    shell::run(&mut shell::cargo(&["fmt", "--all", "--check"]))?;
    if faults.is_empty() {
        println!("tidy");
        return Ok(());
    }
    bail!("{} faults:\n{}", faults.len(), faults.join("\n"))
}

fn tracked_files() -> Result<Vec<PathBuf>> {
    let list = shell::output(Command::new("git").args(["ls-files"]).current_dir(shell::root()))?;
    Ok(list.lines().map(|line| shell::root().join(line)).filter(|path| path.exists()).collect())
}

fn check_file(path: &Path, faults: &mut Vec<String>) -> Result<()> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let shown = path.strip_prefix(shell::root()).unwrap_or(path).display();
    if path.ends_with("mod.rs") {
        faults.push(format!("{shown}: name it after its module, not mod.rs"));
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        faults.push(format!("{shown}: {lines} lines; split it below {LINES_MAX}"));
    }
    for (number, line) in text.lines().enumerate() {
        if line.chars().count() > COLUMNS_MAX && !line.contains('"') {
            faults.push(format!("{shown}:{}: longer than {COLUMNS_MAX} columns", number + 1));
        }
    }
    let is_test =
        path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
    if !is_test && !text.trim_start().starts_with("//!") {
        faults.push(format!("{shown}: begins without a module doc (//!)"));
    }
    Ok(())
}

fn check_layers(faults: &mut Vec<String>) -> Result<()> {
    let metadata = shell::output(&mut shell::cargo(&[
        "metadata",
        "--format-version=1",
        "--no-deps",
        "--offline",
    ]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata).context("cargo metadata")?;
    let layers: BTreeMap<&str, u8> = LAYERS
        .iter()
        .flat_map(|(layer, crates)| crates.iter().map(|name| (*name, *layer)))
        .collect();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(layer) = layers.get(name) else {
            faults.push(format!("{name}: give it a layer in xtask/src/tidy.rs"));
            continue;
        };
        let normal = package["dependencies"].as_array().into_iter().flatten();
        for dependency in normal.filter(|dependency| dependency["kind"].is_null()) {
            let other = dependency["name"].as_str().unwrap_or_default();
            let upward = layers.get(other).is_some_and(|below| below >= layer);
            if upward && !WITHIN.contains(&(name, other)) {
                faults.push(format!(
                    "{name} (layer {layer}) depends on {other}, which is not below it"
                ));
            }
            if PURE.contains(&name) && IMPURE_DEPENDENCIES.contains(&other) {
                faults.push(format!("{name} is pure, but depends on {other}"));
            }
        }
    }
    Ok(())
}
