//! `cargo xtask vm`: the binary in a virtual machine that has cgroup v2 only.
//!
//! Most developers' machines have one version of cgroups; this is how the other one is run for
//! real. It needs qemu and a kernel, which are installed by package name. Not part of
//! `cargo xtask test`: the machine is emulated, which takes minutes.
use crate::{shell, tools};
use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const DEBIAN: [(&str, &str); 2] =
    [("qemu-system-x86", "/usr/bin/qemu-system-x86_64"), ("busybox-static", "/bin/busybox")];
/// Stands for the newest kernel; its modules are few.
const KERNEL: &str = "linux-image-cloud-amd64";
const INIT: &str = include_str!("vm/init.sh");
const WORKLOADS: &str = include_str!("vm/workloads.yaml");
const MEMORY_MIB: u32 = 3072;
/// The whole run, in seconds, after which the machine is ended: emulated ones are slow.
const TIMEOUT_SECONDS: u32 = 1800;
const PASSED: &str = "vm: passed";

pub(crate) fn run() -> Result<()> {
    tools::install(&DEBIAN)?;
    let kubectl = tools::kubectl()?;
    let binary = match std::env::var_os("KYBERN_E2E_BINARY") {
        Some(binary) => PathBuf::from(binary),
        None => {
            shell::run(&mut shell::cargo(&["build", "--release", "--package", "kybern"]))?;
            shell::release_binary()?
        }
    };
    let folder = shell::target().join("vm");
    let kernel = kernel(&folder)?;
    let busybox = Path::new("/bin/busybox");
    let programs = [("kybern", &*binary), ("kubectl", &kubectl), ("busybox", busybox)];
    let initrd = initrd(&folder, &kernel, &programs)?;
    boot(&kernel, &initrd)
}

/// The unpacked kernel package.
fn kernel(folder: &Path) -> Result<PathBuf> {
    let depends = shell::output(Command::new("apt-cache").args(["depends", KERNEL]))?;
    let package = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: ")?.strip_prefix("linux-image-"))
        .with_context(|| format!("{KERNEL} stands for no kernel"))?;
    let root = folder.join(package);
    if root.join("boot").is_dir() {
        return Ok(root);
    }
    println!("getting the Debian package linux-image-{package} into {}", folder.display());
    std::fs::create_dir_all(folder)?;
    let name = format!("linux-image-{package}");
    shell::run(Command::new("apt-get").args(["download", "-qq", &name]).current_dir(folder))?;
    let prefix = format!("{name}_");
    let archive = entry(folder, |name| name.starts_with(&prefix))?;
    shell::run(Command::new("dpkg-deb").arg("-x").args([&archive, &root]))?;
    Ok(root)
}

/// The first entry of a folder whose name is such.
fn entry(folder: &Path, is: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let all = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut named = all.flatten().filter(|entry| entry.file_name().to_str().is_some_and(&is));
    let found = named.next().with_context(|| format!("{}: it is not there", folder.display()))?;
    Ok(found.path())
}

/// A root file system of the programs, the kernel's modules and the checks.
fn initrd(folder: &Path, kernel: &Path, programs: &[(&str, &Path)]) -> Result<PathBuf> {
    let root = folder.join("root");
    if root.exists() {
        std::fs::remove_dir_all(&root)?;
    }
    for name in ["bin", "etc", "lib/modules", "proc", "root", "mnt"] {
        std::fs::create_dir_all(root.join(name))?;
    }
    for (name, program) in programs {
        std::fs::copy(program, root.join("bin").join(name))?;
    }
    let write = |name: &str, text: &str, mode: u32| {
        let path = root.join(name);
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
    };
    write("init", INIT, 0o755)?;
    write("etc/workloads.yaml", WORKLOADS, 0o644)?;
    write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", 0o644)?;
    let modules = entry(&kernel.join("lib/modules"), |_| true)?;
    let version = modules.file_name().and_then(|n| n.to_str()).context("the kernel's version")?;
    let to = root.join("lib/modules").join(version).join("kernel");
    for part in ["net", "fs/overlayfs", "drivers/net", "lib", "crypto", "arch/x86/crypto"] {
        let from = modules.join("kernel").join(part);
        let parent = to.join(part);
        std::fs::create_dir_all(parent.parent().context("modules lie in folders")?)?;
        shell::run(Command::new("cp").arg("-r").arg(&from).arg(&parent))?;
    }
    shell::run(Command::new("/bin/busybox").args(["depmod", "-b"]).arg(&root).arg(version))?;
    let image = folder.join("initrd");
    println!("packing {}", image.display());
    let pack = "find . | busybox cpio -o -H newc 2>/dev/null";
    let packed = Command::new("sh")
        .args(["-c", pack])
        .current_dir(&root)
        .stdout(std::fs::File::create(&image)?)
        .status()?;
    ensure!(packed.success(), "cannot pack {}", image.display());
    Ok(image)
}

/// Starts the machine, shows what it says, and waits for its verdict.
fn boot(kernel: &Path, initrd: &Path) -> Result<()> {
    let image = entry(&kernel.join("boot"), |name| name.starts_with("vmlinuz"))?;
    let mut command = Command::new("timeout");
    command
        .arg(TIMEOUT_SECONDS.to_string())
        .args(["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max"])
        .args(["-smp", "2", "-m", &MEMORY_MIB.to_string(), "-nic", "none"])
        .args(["-display", "none", "-serial", "stdio", "-no-reboot"])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(initrd)
        .args(["-append", "console=ttyS0 quiet panic=-1 cgroup_no_v1=all rdinit=/init"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut machine = command.spawn().context("cannot start qemu")?;
    let output = machine.stdout.take().context("qemu has no standard output")?;
    let mut passed = false;
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        let line = line.trim_end();
        println!("{line}");
        passed |= line == PASSED;
    }
    machine.wait()?;
    if !passed {
        bail!("the checks in the virtual machine did not pass");
    }
    Ok(())
}
