//! Tasks of the project: `cargo xtask tidy|test|e2e|bench|codegen`.
fn main() -> anyhow::Result<()> {
    anyhow::bail!("usage: cargo xtask tidy|test|e2e|bench|codegen")
}
