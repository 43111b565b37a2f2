//! What runs inside the containers: looks, and tells what it sees.
use std::fs;
use std::io::{Read, Write};

pub(crate) fn main(args: &[String]) -> i32 {
    let arg = |n: usize| args.get(n).map(String::as_str).unwrap_or_default();
    match arg(0) {
        "say" => {
            eprintln!("to stderr");
            println!("to stdout");
            print!("no newline");
            return 7;
        }
        "sleep" => loop {
            std::thread::park();
        },
        "keep" => {
            fs::write(arg(1), "kept").expect("written");
            loop {
                std::thread::park();
            }
        }
        "status" => {
            print!("{}", fs::read_to_string("/proc/self/status").expect("proc"));
            println!("pid: {}", std::process::id());
            println!("cwd: {}", std::env::current_dir().expect("cwd").display());
            println!("hostname: {}", std::env::var("HOSTNAME").unwrap_or_default());
            println!("HOME: {}", std::env::var("HOME").unwrap_or_default());
        }
        "read" => match fs::read(arg(1)) {
            Ok(bytes) => println!("{} bytes: {}", bytes.len(), String::from_utf8_lossy(&bytes)),
            Err(e) => println!("{}", sys::reason(&e)),
        },
        "write" => {
            tell(fs::File::options().append(true).create(true).open(arg(1)).map(drop));
        }
        "fill" => tell(fs::write(arg(1), vec![1; 1 << 20])),
        "mount" => tell(sys::mount::new_fs("tmpfs", &[], 0).map(drop)),
        "kernel-log" => {
            tell(make_log_node("log-node").and_then(|()| fs::File::open("/log-node")).map(drop));
        }
        "links" => {
            let names = fs::read_dir("/sys/class/net").expect("sysfs").flatten();
            let names: Vec<_> =
                names.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
            println!("net={}", names.join(","));
        }
        "pids" => {
            let names = fs::read_dir("/proc").expect("proc").flatten();
            let names = names.map(|e| e.file_name().to_string_lossy().into_owned());
            let pids: Vec<_> = names.filter(|n| n.parse::<i32>().is_ok()).collect();
            println!("{}", pids.join(" "));
        }
        "echo" => drop(std::io::copy(&mut std::io::stdin(), &mut std::io::stdout())),
        "tty" => {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).expect("a line");
            let size = sys::pty::size(std::io::stdin()).expect("a terminal");
            let name = fs::read_link("/proc/self/fd/0").expect("a name");
            println!("size {}x{} on {}", size.0, size.1, name.display());
            assert!(fs::File::open("/dev/tty").is_ok(), "it is the controlling terminal");
            println!("console {}", fs::File::open("/dev/console").is_ok());
        }
        "eat" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(vec![1_u8; 1 << 20]);
            }
        }
        other => {
            eprintln!("probe: no {other:?}");
            return 99;
        }
    }
    let _ = std::io::stdout().flush();
    let _ = std::io::stdin().take(0);
    0
}

fn tell(result: std::io::Result<()>) {
    match result {
        Ok(()) => println!("ok"),
        Err(e) => println!("{}", sys::reason(&e)),
    }
}

/// A node for the kernel's log, which no container is to open.
fn make_log_node(path: &str) -> std::io::Result<()> {
    let root = sys::mount::open_place(std::path::Path::new("/"))?;
    let device = nix::sys::stat::makedev(1, 11);
    sys::mount::mknod_at(root, std::path::Path::new(path), 0o020_600, device)
}
