//! The shell at work. It forks, which a test harness with its threads cannot: this program is the
//! tests and, under a tool's name, the toolbox.
#![allow(clippy::unwrap_used, reason = "these are tests")]
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if toolbox::is_tool(&args[0]) {
        std::process::exit(toolbox::main(&args));
    }
    let mut wrong = 0;
    for (script, want, code) in SCRIPTS {
        let output = sh(script).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        if text != *want || output.status.code() != Some(*code) {
            let ended = output.status;
            println!("{script}\n  wanted {want:?} {code}\n  got {text:?} {ended} {errors}");
            wrong += 1;
        }
    }
    assert_eq!(wrong, 0, "scripts failed");
    println!("test scripts ... ok ({})", SCRIPTS.len());
    a_trap_ends_a_wait();
    reads_no_further_than_it_needs();
}

fn sh(script: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    // A folder of nothing on the path: every tool is the toolbox's own.
    command.arg0("sh").args(["-c", script, "name", "one", "two"]).env_clear();
    command.env("PATH", "/nowhere").env("HOME", "/root").stdin(Stdio::null());
    command
}

/// What is run, what it prints, its code.
const SCRIPTS: &[(&str, &str, i32)] = &[
    ("echo hello", "hello\n", 0),
    ("exit 3", "", 3),
    ("false; echo $?; true; echo $?", "1\n0\n", 0),
    ("false", "", 1),
    ("nope", "", 127),
    ("/etc", "", 126),
    ("true && echo a || echo b; false && echo c || echo d", "a\nd\n", 0),
    ("echo a b c | wc -w | cat", "3\n", 0),
    ("seq 3 | while read n; do echo \"<$n>\"; done", "<1>\n<2>\n<3>\n", 0),
    ("i=0; while [ $i -lt 3 ]; do i=$((i+1)); [ $i = 2 ] && continue; echo $i; done", "1\n3\n", 0),
    (
        "for x in a 'b c' $1; do echo \"$x\"; done; for y; do echo $y; done",
        "a\nb c\none\none\ntwo\n",
        0,
    ),
    (
        "for i in 1 2 3; do for j in 1 2; do [ $i = 2 ] && break 2; echo $i$j; done; done",
        "11\n12\n",
        0,
    ),
    ("if false; then echo a; elif true; then echo b; else echo c; fi", "b\n", 0),
    ("case x.log in *.txt) echo t;; *.log|*.out) echo l;; *) echo o;; esac", "l\n", 0),
    ("f() { echo \"$#:$1\"; return 4; }; f a b; echo $? $1", "2:a\n4 one\n", 0),
    ("x=1; (x=2; echo $x); echo $x; { x=3; }; echo $x", "2\n1\n3\n", 0),
    ("echo $(echo a; echo b) \"$(printf 'c\\n\\n')\" `echo d`", "a b c d\n", 0),
    ("x=5 env | grep x=; x=5 env | grep -c '^PATH=/nowhere$'; echo [$x]", "x=5\n1\n[]\n", 0),
    ("export A=1; B=2; sh -c 'echo [$A] [$B]'", "[1] []\n", 0),
    ("cat <<E\na $1\nE\ncat <<'E'\n$1\nE\necho after", "a one\n$1\nafter\n", 0),
    (
        "d=$(mktmp 2>/dev/null || echo /tmp); echo x >/dev/null; echo y 2>&1 | cat; nope 2>/dev/null; echo $?",
        "y\n127\n",
        0,
    ),
    ("{ echo out; echo err >&2; } 2>&1 >/dev/null", "err\n", 0),
    ("set -e; false || true; if false; then :; fi; ! true; echo on; false; echo off", "on\n", 1),
    ("set -u; echo $none; echo off", "", 2),
    ("set -o pipefail; false | true; echo $?", "1\n", 0),
    ("trap 'echo bye' EXIT; exit 7", "bye\n", 7),
    ("trap 'echo got' TERM; kill -TERM $$; echo after", "got\nafter\n", 0),
    ("sleep 0.01 & wait $!; echo $?; (exit 6) & wait $!; echo $?", "0\n6\n", 0),
    ("sleep 1000 & kill $!; wait $!; echo $?", "143\n", 0),
    ("sh -c 'kill -9 $$'; echo $?", "137\n", 0),
    ("echo a; echo 'b", "", 2),
    ("x=${none:?is missing}; echo off", "", 2),
    ("f() { f; }; f", "", 2),
    ("cd /; pwd; cd /etc; echo $PWD $OLDPWD", "/\n/etc /\n", 0),
    (
        "echo one > /tmp/kybern-sh-$$; echo two >> /tmp/kybern-sh-$$; cat < /tmp/kybern-sh-$$; rm /tmp/kybern-sh-$$",
        "one\ntwo\n",
        0,
    ),
    (
        "eval 'x=1; echo $x'; command -v echo; command echo hi; type nope",
        "1\necho\nhi\nnope: not found\n",
        127,
    ),
    ("set -- a 'b c'; shift; echo \"$1\" $#", "b c 1\n", 0),
    ("echo $name $0 \"$@\" \"$*\"", "name one two one two\n", 0),
    ("printf '%s-%03d\\n' a 7 b 8", "a-007\nb-008\n", 0),
    ("tar cf - /etc/hostname 2>/dev/null | tar tf -", "etc/hostname\n", 0),
    (
        "head -n1 /etc/passwd | wc -l; echo abc | tee /dev/null; echo -n x; basename /a/b.c .c",
        "1\nabc\nxb\n",
        0,
    ),
];

fn a_trap_ends_a_wait() {
    let script = "trap 'echo got; kill $!; exit 3' TERM; sleep 1000 & echo ready; wait";
    let mut child = sh(script).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    sys::process::kill(child.id() as i32, 15).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "got");
    assert_eq!(child.wait().unwrap().code(), Some(3));
    println!("test a_trap_ends_a_wait ... ok");
}

fn reads_no_further_than_it_needs() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg0("sh").env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"read x\nfor the read\necho [$x]\nif true\nthen echo in\nfi\ncat\nthe rest\n")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "[for the read]\nin\nthe rest\n");
    println!("test reads_no_further_than_it_needs ... ok");
}
