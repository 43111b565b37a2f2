//! Filters are run by a small interpreter of the few instructions that the compiler emits.
use super::*;
use crate::caps;

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;

fn run(program: &[Instruction], arch: u32, call: u32, arguments: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(call.to_le_bytes());
    data.extend(arch.to_le_bytes());
    data.extend(0_u64.to_le_bytes());
    arguments.iter().for_each(|a| data.extend(a.to_le_bytes()));
    let (mut at, mut accumulator) = (0_usize, 0_u32);
    loop {
        let i = program[at];
        at += 1;
        let taken = match i.code {
            0x20 => {
                let k = i.k as usize;
                accumulator = u32::from_le_bytes(data[k..k + 4].try_into().unwrap());
                continue;
            }
            0x54 => {
                accumulator &= i.k;
                continue;
            }
            0x05 => {
                at += i.k as usize;
                continue;
            }
            0x06 => return i.k,
            0x15 => accumulator == i.k,
            0x25 => accumulator > i.k,
            0x35 => accumulator >= i.k,
            code => panic!("instruction {code:#x}"),
        };
        at += usize::from(if taken { i.jump_true } else { i.jump_false });
    }
}

fn call(name: &str) -> u32 {
    number(name).expect(name)
}

#[test]
fn every_number_gets_its_own_verdict() {
    let profile = runtime_default(caps::Set::standard());
    let program = compile(&profile);
    assert!(program.len() < 4096);
    for n in 0..1000 {
        let plain = profile.rules.iter().find(|r| r.call == n);
        let want = match plain {
            Some(rule) if rule.conditions.is_empty() && rule.action == Action::Allow => ALLOW,
            Some(rule) if rule.conditions.is_empty() => ENOSYS,
            Some(_) => continue,
            None => EPERM,
        };
        assert_eq!(run(&program, ARCH, n, [0; 6]), want, "call {n}");
    }
}

#[test]
fn the_default_profile_refuses_what_administers_the_machine() {
    let program = compile(&runtime_default(caps::Set::standard()));
    let at = |name: &str, first: u64| run(&program, ARCH, call(name), [first, 0, 0, 0, 0, 0]);
    for name in
        ["mount", "reboot", "init_module", "bpf", "keyctl", "add_key", "kexec_load", "setns"]
    {
        assert_eq!(at(name, 0), EPERM, "{name}");
    }
    for name in ["read", "execve", "futex", "ptrace", "chroot", "rseq"] {
        assert_eq!(at(name, 0), ALLOW, "{name}");
    }
    assert_eq!(at("clone", 0x0001_0f11), ALLOW);
    assert_eq!(at("clone", 0x1000_0000), EPERM, "CLONE_NEWUSER");
    assert_eq!(at("clone3", 0), ENOSYS);
    assert_eq!(at("socket", 2), ALLOW);
    assert_eq!(at("socket", 40), EPERM, "AF_VSOCK");
    assert_eq!(at("personality", 0xffff_ffff), ALLOW);
    assert_eq!(at("personality", 0x0040_0000), EPERM);
    assert_eq!(run(&program, 0x4000_0003, 0, [0; 6]), ENOSYS, "another architecture");
    assert_eq!(run(&program, ARCH, 0x4000_0000, [0; 6]), ENOSYS, "x32");

    let admin = compile(&runtime_default(caps::Set(1 << caps::SYS_ADMIN)));
    assert_eq!(run(&admin, ARCH, call("mount"), [0; 6]), ALLOW);
    assert_eq!(run(&admin, ARCH, call("clone"), [0x1000_0000, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(run(&admin, ARCH, call("chroot"), [0; 6]), EPERM, "without SYS_CHROOT");
}

#[test]
fn comparisons_look_at_all_64_bits() {
    const BIG: u64 = 0x1_0000_0005;
    for (op, holds) in [
        (Op::Equal, (|a, v| a == v) as fn(u64, u64) -> bool),
        (Op::NotEqual, |a, v| a != v),
        (Op::Less, |a, v| a < v),
        (Op::LessOrEqual, |a, v| a <= v),
        (Op::Greater, |a, v| a > v),
        (Op::GreaterOrEqual, |a, v| a >= v),
        (Op::MaskedEqual(0xf_0000_000f), |a, v| a & 0xf_0000_000f == v),
    ] {
        let rules = vec![Rule {
            call: 7,
            conditions: vec![
                Condition { argument: 2, op, value: BIG },
                Condition { argument: 5, op: Op::Equal, value: 9 },
            ],
            action: Action::Errno(5),
        }];
        let program = compile(&Profile { otherwise: Action::Allow, rules });
        for a in [0, 5, BIG - 1, BIG, BIG + 1, BIG + 16, u64::MAX, 0xffff_ffff, 2 << 32] {
            let want = if holds(a, BIG) { 0x0005_0005 } else { ALLOW };
            assert_eq!(run(&program, ARCH, 7, [0, 0, a, 0, 0, 9]), want, "{op:?} {a:#x}");
            assert_eq!(run(&program, ARCH, 7, [0, 0, a, 0, 0, 8]), ALLOW, "second condition");
        }
        assert_eq!(run(&program, ARCH, 6, [0; 6]), ALLOW);
        assert_eq!(run(&program, ARCH, 8, [0; 6]), ALLOW);
    }
}

#[test]
fn reads_profiles_and_says_what_is_wrong() {
    let json = br#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"archMap":[],"syscalls":[
        {"names":["read","no_such_call"],"action":"SCMP_ACT_ALLOW"},
        {"names":["write"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
        {"name":"close","action":"SCMP_ACT_ERRNO","errnoRet":5,"args":null,
         "excludes":{"caps":["CAP_SYS_ADMIN"]}}]}"#;
    let program = compile(&parse(json, caps::Set::default()).expect("valid"));
    assert_eq!(run(&program, ARCH, call("read"), [0; 6]), ALLOW);
    assert_eq!(run(&program, ARCH, call("write"), [0; 6]), ENOSYS);
    assert_eq!(run(&program, ARCH, call("close"), [0; 6]), 0x0005_0005);
    for bad in [
        &b"{}"[..],
        br#"{"defaultAction":"SCMP_ACT_DANCE"}"#,
        br#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],
            "action":"SCMP_ACT_ERRNO","args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#,
    ] {
        assert!(parse(bad, caps::Set::default()).is_err());
    }
}
