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
        let text = without_pid(&text);
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
    a_trap_does_not_wait_for_a_command();
    reads_no_further_than_it_needs();
}

fn sh(script: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    // A folder of nothing on the path: every tool is the toolbox's own.
    command.arg0("sh").args(["-c", script, "name", "one", "two"]).env_clear();
    command.env("PATH", "/nowhere").env("HOME", "/root").stdin(Stdio::null());
    command
}

/// Names of temporary folders hold the shell's number.
fn without_pid(text: &str) -> String {
    let mut parts = text.split("/tmp/kt-");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| {
        all + "/tmp/kt-X" + part.trim_start_matches(|c: char| c.is_ascii_digit())
    })
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
    ("echo x >/dev/null; echo y 2>&1 | cat; nope 2>/dev/null; echo $?", "y\n127\n", 0),
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
        "f=/tmp/kybern-sh-$$; echo one > $f; echo two >> $f; cat < $f; rm $f; \
         cat $f 2>/dev/null || echo gone",
        "one\ntwo\ngone\n",
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
    // Parameters.
    (
        "x=abcabc; echo ${x#*b} ${x##*b} ${x%b*} ${x%%b*} ${#x} ${x/b/-} ${x//b/-} ${x:1:3}",
        "cabc c abca a 6 a-cabc a-ca-c bca\n",
        0,
    ),
    ("unset x; echo ${x-a} ${x:=b} $x ${x:+c} ${x+d} [${y:+e}]", "a b b c d []\n", 0),
    ("x=; echo [${x-a}] [${x:-a}]; echo \"${x:-'q' \"in $1\"}\"", "[] [a]\n'q' in one\n", 0),
    ("IFS=:; x=a:b::c; for w in $x; do echo \"<$w>\"; done", "<a>\n<b>\n<>\n<c>\n", 0),
    (
        "f() { echo $#; }; f \"$@\"; f \"\"; f $none; f \"$*\"; set --; f \"$@\"",
        "2\n1\n0\n1\n0\n",
        0,
    ),
    ("echo \"a\\$b\\\"c\\\\d\" 'x\\y' a\\ b $'t\\tn'", "a$b\"c\\d x\\y a b t\tn\n", 0),
    ("x='a  b'; echo $x \"$x\"; y=$x; echo \"$y\"", "a b a  b\na  b\n", 0),
    ("echo ~ ~/x \"~\" a~", "/root /root/x ~ a~\n", 0),
    // Arithmetic.
    (
        "echo $((1+2*3)) $(( (1+2)*3 )) $((7/2)) $((7%4)) $((-3)) $((1<<4|1)) $((0x10)) $((010))",
        "7 9 3 3 -3 17 16 8\n",
        0,
    ),
    (
        "x=4; echo $((x++)) $x $((++x)) $((x+=2)) $((x>7 ? 1 : 2)) $((x==8 && !0)) $((y=3)) $y",
        "4 5 6 8 1 1 3 3\n",
        0,
    ),
    ("echo $((1/0)); echo off", "", 2),
    ("echo $((x = 5, x * 2)) $((1 ? 2 : (y = 9))) [$y]", "10 2 []\n", 0),
    // Patterns.
    (
        "cd /etc; echo hos[t]nam? none*; set -f; echo h*tname; case a-b in [!a]*) echo n;; \
         a[-x]b) echo y;; esac",
        "hostname none*\nh*tname\ny\n",
        0,
    ),
    (
        "case 'a*' in a\\*) echo lit;; esac; x='*'; case ab in \"$x\") echo no;; $x) echo pat;; \
         esac",
        "lit\npat\n",
        0,
    ),
    // Redirections.
    ("exec 3>&1; echo a >&3; exec 3>&-; echo b >&3; echo $?", "a\n1\n", 0),
    ("while read a b; do echo \"$b-$a\"; done <<E\n1 2 3\n4 5\nE", "2 3-1\n5-4\n", 0),
    ("cat <<-E; cat <<< here\n\ta\n\tE", "a\nhere\n", 0),
    ("cat <<A && cat <<B\n$(echo in A)\nA\nin \\$B `echo b`\nB", "in A\nin $B b\n", 0),
    ("cat /none/such > /dev/null; cat < /none/such; echo $?", "1\n", 0),
    ("printf 'a b\\\\c\\n' | { read -r x y; echo \"[$x] [$y]\"; }", "[a] [b\\c]\n", 0),
    ("printf 'last' | { read x; echo \"$? $x\"; }", "1 last\n", 0),
    // Control.
    ("if (exit 2); then echo a; else echo $?; fi; while false; do :; done; echo $?", "2\n0\n", 0),
    ("for i in 1 2 3; do case $i in 2) continue;; esac; echo $i; done | tail -n 1", "3\n", 0),
    ("until [ $((i+=1)) -ge 3 ]; do :; done; echo $i", "3\n", 0),
    ("f() { local x=2; g; }; g() { echo $x; }; x=1; f; echo $x", "2\n1\n", 0),
    ("f() ( exit 3 ); f; echo $?; f() { return; }; false; f; echo $?", "3\n1\n", 0),
    (
        "set -e; f() { false; echo in; }; f || echo no; if f; then echo yes; fi; f; echo off",
        "in\nin\nyes\n",
        1,
    ),
    ("set -e; x=$(false); echo off", "", 1),
    ("! false && echo a; { false; } || echo b; true | false || echo c", "a\nb\nc\n", 0),
    ("trap 'echo end' EXIT; (echo sub); exec true", "sub\n", 0),
    ("trap 'echo $?; exit 4' EXIT; exit 5", "5\n", 4),
    ("(trap 'echo inner' EXIT; exit 3); echo $?", "inner\n3\n", 0),
    (
        "trap '' TERM; sh -c 'kill -TERM $$; echo lives'; trap - TERM; sh -c 'kill -TERM $$'; \
         echo $?",
        "lives\n143\n",
        0,
    ),
    (
        "sh -c 'echo $0 $1' a b; echo 'echo $1' > /tmp/ks-$$; sh /tmp/ks-$$ q; . /tmp/ks-$$; \
         rm /tmp/ks-$$",
        "a b\nq\none\n",
        0,
    ),
    ("readonly r=1; r=2; echo off", "", 2),
    (
        "while getopts ab:c o -a -b val -c rest; do echo $o $OPTARG; done; echo $OPTIND",
        "a\nb val\nc\n5\n",
        0,
    ),
    ("set -x; echo a", "a\n", 0),
    ("echo a # comment\necho 'b # c' d#e", "a\nb # c d#e\n", 0),
    ("echo a;; echo b", "", 2),
    ("echo (a)", "", 2),
    ("if true; then", "", 2),
    ("echo ${x", "", 2),
    ("a=1 b=$a; echo $b; a=2 true; echo $a; a=3 eval 'echo $a'", "1\n1\n3\n", 0),
    ("wait 99999; echo $?; kill -0 $$ && echo alive", "127\nalive\n", 0),
    (
        "type cd; command -v nope || echo none; unset -f f; x=1; unset x; echo [$x]",
        "cd is a shell builtin\nnone\n[]\n",
        0,
    ),
    // Tools.
    ("printf 'b 2\\na 10\\nb 2\\n' | sort -k2 -n | uniq -c | tr -s ' '", " 2 b 2\n 1 a 10\n", 0),
    (
        "printf 'one\\nTwo\\nthree\\n' | grep -n -i '^t'; echo abc | grep -q x || echo none",
        "2:Two\n3:three\nnone\n",
        0,
    ),
    (
        "echo 'a1b22' | grep -oE '[0-9]+'; echo 'foo.bar' | grep -c 'o\\.b'; echo ab | \
         grep -E '^(a|x)+b$'",
        "1\n22\n1\nab\n",
        0,
    ),
    (
        "echo a:b:c | cut -d: -f1,3; echo abc | tr a-c A-C; echo hello | tr -d l; echo abcdef | \
         cut -c2-4",
        "a:c\nABC\nheo\nbcd\n",
        0,
    ),
    (
        "seq 5 | tail -n 2; seq 5 | head -n1; seq 3 | tail -n +2; seq 10 -5 0",
        "4\n5\n1\n2\n3\n10\n5\n0\n",
        0,
    ),
    (
        "printf '%5s|%-5s|%05.1f|%x|%c|%%|%b\\n' a b 3.14159 255 xyz 'q\\tr'",
        "    a|b    |003.1|ff|x|%|q\tr\n",
        0,
    ),
    (
        "echo a b c | xargs -n 1 echo x; echo 'a b' | xargs -I{} echo '<{}>'; echo | \
         xargs -r echo no",
        "x a\nx b\nx c\n<a b>\n",
        0,
    ),
    (
        "d=/tmp/kt-$$; mkdir -p $d/a/b; echo hi > $d/a/f; cp -r $d/a $d/c; ls $d $d/c; \
         find $d -name f -type f | wc -l; rm -r $d; ls $d 2>/dev/null || echo gone",
        "/tmp/kt-X:\na\nc\n\n/tmp/kt-X/c:\nb\nf\n2\ngone\n",
        0,
    ),
    (
        "test 1 -lt 2 -a -d /etc && echo a; [ ! -e /none ] && echo b; \
         [ x = x -o x = y ] && echo c; [ ]; echo $?; [ a -eq 1 ]; echo $?",
        "a\nb\nc\n1\n2\n",
        0,
    ),
    (
        "date -u -d @0 +%FT%TZ; expr 2 + 3 \\* 4; timeout 0.05 sleep 10; echo $?; printf abc | \
         sha256sum | cut -c1-8",
        "1970-01-01T00:00:00Z\n14\n124\nba7816bf\n",
        0,
    ),
    (
        "d=/tmp/kt-$$; mkdir $d; cd $d; mkdir s; echo data > s/f; tar cf - s | \
         tar xmf - -C /tmp/kt-$$ && cat s/f; chmod 600 s/f; stat -c %a s/f; ln -s s/f l; \
          readlink l; cd /; rm -rf $d",
        "data\n600\ns/f\n",
        0,
    ),
    (
        "yes | head -n 2; echo ${PIPESTATUS-none}; dd if=/dev/zero bs=10 count=3 status=none | \
         wc -c",
        "y\ny\nnone\n30\n",
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

/// Not only a wait: a trap also runs while a command in the foreground does.
fn a_trap_does_not_wait_for_a_command() {
    let script =
        "trap 'echo got; exit 0' TERM; while true; do sh -c 'echo ready; exec sleep 99'; done";
    let mut child = sh(script).process_group(0).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    sys::process::kill(child.id() as i32, 15).unwrap();
    let got = lines.next().unwrap().unwrap();
    let code = child.wait().unwrap().code();
    // The command outlives the shell that did not wait for it.
    let group = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!((got.as_str(), code), ("got", Some(0)));
    println!("test a_trap_does_not_wait_for_a_command ... ok");
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
