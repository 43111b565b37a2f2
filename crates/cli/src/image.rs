//! `kybern image`: images for the nodes of this machine, with a registry or without.
use crate::Folder;
use crate::output::{Format, Progress, bytes, print, show, table};
use crate::paths::DataDir;
use anyhow::{Context, Result, bail};
use api::Value;
use clap::{Args, Subcommand};
use images::{Auth, BuildSpec, ImageConfig, ImageRef, Images, PullOptions};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use value::json;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kybern image import app.tar
  kybern image list")]
pub(crate) struct Image {
    #[command(subcommand)]
    command: Command,
    #[arg(long, short, value_enum, default_value_t, global = true)]
    output: Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring images from archives (docker save, OCI layout, root file system) or folders
    #[command(after_help = "Examples:
  kybern image import app.tar
  docker save shop/app:1 | kybern image import -
  kybern image import ./rootfs --name base:1")]
    Import {
        #[command(flatten)]
        folder: Folder,
        /// Archives or folders; `-` reads standard input
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// The image's name, where what is imported has none
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// List the images that are there
    #[command(visible_alias = "ls", after_help = "Example:\n  kybern image list --output json")]
    List {
        #[command(flatten)]
        folder: Folder,
    },
    /// Remove images, by name, digest or the beginning of their id
    #[command(visible_alias = "rm", after_help = "Example:\n  kybern image remove shop/app:1")]
    Remove {
        #[command(flatten)]
        folder: Folder,
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Fetch an image from its registry
    #[command(after_help = "Examples:
  kybern image pull busybox:1.36
  kybern image pull --mirror http://127.0.0.1:5000 busybox:1.36")]
    Pull {
        #[command(flatten)]
        folder: Folder,
        image: String,
        /// Tried before the image's own registry
        #[arg(long = "mirror", value_name = "URL")]
        mirrors: Vec<String>,
        #[arg(long, value_name = "NAME", requires = "password_stdin")]
        username: Option<String>,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
        /// Such as `linux/arm64` [default: this machine's]
        #[arg(long, value_name = "OS/ARCHITECTURE", default_value = "", hide_default_value = true)]
        platform: String,
        /// Print no progress
        #[arg(long, short)]
        quiet: bool,
    },
    /// Make an image from a folder, which becomes its root file system
    #[command(after_help = "Example:
  kybern image build ./folder --name shop/app:1 --entrypoint /bin/app --env PORT=8080")]
    Build {
        #[command(flatten)]
        folder: Folder,
        source: PathBuf,
        /// The image's name
        #[arg(long, value_name = "NAME")]
        name: String,
        /// A word of the entry point; give it again for more
        #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
        entrypoint: Vec<String>,
        /// A word of the default arguments; give it again for more
        #[arg(long = "cmd", value_name = "WORD", allow_hyphen_values = true)]
        cmd: Vec<String>,
        #[arg(long, value_name = "NAME=VALUE")]
        env: Vec<String>,
        #[arg(long, value_name = "FOLDER", default_value = "", hide_default_value = true)]
        workdir: String,
        #[arg(long, value_name = "USER[:GROUP]", default_value = "", hide_default_value = true)]
        user: String,
    },
}

impl Image {
    pub(crate) fn run(self) -> Result<()> {
        crate::require_root("image")?;
        let output = self.output;
        match self.command {
            Command::Import { folder, paths, name } => {
                import(&folder, &paths, name.as_deref(), output)
            }
            Command::List { folder } => list(&folder, output),
            Command::Remove { folder, images } => remove(&folder, &images, output),
            Command::Pull { folder, image, mirrors, username, password_stdin, platform, quiet } => {
                let auths = credentials(username, password_stdin)?;
                let options = PullOptions { auths, mirrors, platform };
                let pulled = pull(&folder, &image, &options, quiet)?;
                told(output, &[pulled]);
                Ok(())
            }
            Command::Build { folder, source, name, entrypoint, cmd, env, workdir, user } => {
                let odd = env.iter().find(|pair| !pair.contains('='));
                if let Some(odd) = odd {
                    bail!("--env {odd}: give NAME=VALUE");
                }
                let config = ImageConfig {
                    entrypoint,
                    cmd,
                    env,
                    working_dir: workdir,
                    user,
                    ..ImageConfig::default()
                };
                let spec = BuildSpec { folder: source, config, name };
                told(output, &[open(&folder)?.build(&spec)?]);
                Ok(())
            }
        }
    }
}

fn open(folder: &Folder) -> Result<Images> {
    Ok(store_of(&folder.open()?)?)
}

/// The image store that all nodes of the machine share.
pub(crate) fn store_of(dir: &DataDir) -> Result<Images, images::Error> {
    Images::open(dir.images())
}

/// The images that a command has brought.
fn told(output: Format, found: &[images::Image]) {
    show(output, &facts(found), || {
        let line = |image: &images::Image| {
            let name = image.tags.first().unwrap_or(&image.id);
            format!("{name} ({}, {})\n", short(&image.id), bytes(image.size))
        };
        found.iter().map(line).collect()
    });
}

fn facts(found: &[images::Image]) -> Value {
    let one = |image: &images::Image| {
        json!({"id": image.id, "tags": image.tags, "digests": image.repo_digests,
               "bytes": image.size})
    };
    found.iter().map(one).collect()
}

fn short(id: &str) -> &str {
    let hex = id.rsplit(':').next().unwrap_or(id);
    hex.get(..12).unwrap_or(hex)
}

/// Each is told as it comes, or all at the end; after an error, those before it.
fn import(folder: &Folder, paths: &[PathBuf], name: Option<&str>, output: Format) -> Result<()> {
    let store = open(folder)?;
    let name: Option<ImageRef> = name.map(str::parse).transpose()?;
    let mut all = Vec::new();
    let imported = paths.iter().try_for_each(|path| {
        let found = if path == Path::new("-") {
            store.import_reader(std::io::stdin().lock(), name.as_ref())
        } else {
            store.import(path, name.as_ref())
        };
        let found = found.with_context(|| format!("cannot import {}", path.display()))?;
        match output {
            Format::Text => told(output, &found),
            Format::Json | Format::Yaml => all.extend(found),
        }
        Ok(())
    });
    if output != Format::Text {
        told(output, &all);
    }
    imported
}

/// As [`import`].
fn remove(folder: &Folder, images: &[String], output: Format) -> Result<()> {
    let store = open(folder)?;
    let mut all = Vec::new();
    let removed = images.iter().try_for_each(|image| {
        store.remove(image)?;
        match output {
            Format::Text => print(&format!("{image} removed\n")),
            Format::Json | Format::Yaml => all.push(json!({"image": image})),
        }
        Ok(())
    });
    show(output, &Value::Array(all), String::new);
    removed
}

fn list(folder: &Folder, output: Format) -> Result<()> {
    let found = open(folder)?.list()?;
    show(output, &facts(&found), || {
        let rows: Vec<Vec<String>> = found
            .iter()
            .flat_map(|image| {
                let names = if image.tags.is_empty() { &image.repo_digests } else { &image.tags };
                let row = |name: String| vec![name, short(&image.id).to_owned(), bytes(image.size)];
                match names.as_slice() {
                    [] => vec![row("<none>".to_owned())],
                    names => names.iter().cloned().map(row).collect(),
                }
            })
            .collect();
        table(&["IMAGE", "ID", "SIZE"], &rows)
    });
    Ok(())
}

fn credentials(username: Option<String>, password_stdin: bool) -> Result<Vec<Auth>> {
    let Some(username) = username else { return Ok(Vec::new()) };
    let mut password = String::new();
    if password_stdin {
        let mut input = std::io::stdin().lock().take(64 * 1024);
        input.read_to_string(&mut password).context("cannot read the password")?;
    }
    let password = password.trim_end_matches(['\r', '\n']).to_owned();
    Ok(vec![Auth { username, password, ..Auth::default() }])
}

fn pull(folder: &Folder, image: &str, options: &PullOptions, quiet: bool) -> Result<images::Image> {
    let store = open(folder)?;
    let reference: ImageRef = image.parse()?;
    let progress = Arc::new(Progress::new(!quiet));
    progress.line(&format!("pulling {reference}"));
    let last = std::sync::Mutex::new(0u64);
    let shown = progress.clone();
    let tell: images::ProgressFn = Arc::new(move |now: images::Progress| {
        // A line for every tenth is enough.
        let tenth = if now.total == 0 { 0 } else { now.done * 10 / now.total };
        let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if tenth > *last {
            *last = tenth;
            shown.line(&format!("{} of {}", bytes(now.done), bytes(now.total)));
        }
    });
    let pulled =
        crate::runtime_for_command()?.block_on(store.pull(&reference, options, Some(tell)));
    Ok(pulled?)
}
