//! The profile that container runtimes apply by default: what ordinary programs use is allowed,
//! what only administers the machine is refused unless the container has the capability for it.
use super::{Action, Condition, Op, Profile, Rule, number};
use crate::caps;

/// Calls that every container may make.
const ALLOWED: &str = "
accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset chdir chmod chown
clock_adjtime clock_getres clock_gettime clock_nanosleep close close_range connect copy_file_range
creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd
eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fallocate fanotify_mark
fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fork
fremovexattr fsetxattr fstat fstatfs fsync ftruncate futex futex_requeue futex_wait futex_waitv
futex_wake futimesat getcpu getcwd getdents getdents64 getegid geteuid getgid getgroups getitimer
getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresuid getrlimit
get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday getuid
getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl
io_destroy io_getevents io_pgetevents ioprio_get ioprio_set io_setup io_submit kill
landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lgetxattr link linkat listen
listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat madvise
map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock
mlock2 mlockall mmap modify_ldt mprotect mq_getsetattr mq_notify mq_open mq_timedreceive
mq_timedsend mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap
name_to_handle_at nanosleep newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe
pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll prctl pread64 preadv preadv2 prlimit64
process_mrelease process_vm_readv process_vm_writev pselect6 ptrace pwrite64 pwritev pwritev2 read
readahead readlink readlinkat readv recvfrom recvmmsg recvmsg remap_file_pages removexattr
removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending
rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo
sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min
sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam
sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop sendfile sendmmsg
sendmsg sendto setfsgid setfsuid setgid setgroups setitimer setpgid setpriority setregid setresgid
setresuid setreuid setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address
setuid setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4
socketpair splice stat statfs statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo
tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_settime
timerfd_create timerfd_gettime timerfd_settime times tkill truncate umask uname unlink unlinkat
uretprobe utime utimensat utimes vfork vmsplice wait4 waitid write writev";

/// Calls that come with a capability.
const WITH_CAPABILITY: &[(&str, &str)] = &[
    ("BPF", "bpf"),
    ("DAC_READ_SEARCH", "open_by_handle_at"),
    ("PERFMON", "perf_event_open"),
    (
        "SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount
         mount_setattr move_mount open_tree open_tree_attr perf_event_open quotactl quotactl_fd
         setdomainname sethostname setns syslog umount2 unshare",
    ),
    ("SYS_BOOT", "reboot"),
    ("SYS_CHROOT", "chroot"),
    ("SYS_MODULE", "delete_module finit_module init_module"),
    ("SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("SYS_PACCT", "acct"),
    ("SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("SYS_RAWIO", "ioperm iopl"),
    ("SYS_TIME", "clock_settime settimeofday"),
    ("SYS_TTY_CONFIG", "vhangup"),
    ("SYSLOG", "syslog"),
];

/// Values of `personality` that change nothing dangerous: Linux, 32 bit Linux, and asking.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// Every `CLONE_NEW*` flag of `clone`.
const CLONE_NEW: u64 = 0x7e02_0000;
const AF_VSOCK: u64 = 40;

pub(super) fn profile(capabilities: caps::Set) -> Profile {
    let mut rules = Vec::new();
    let mut allow = |names: &str, conditions: &[Condition]| {
        for call in names.split_ascii_whitespace().filter_map(number) {
            let conditions = conditions.to_vec();
            rules.push(Rule { call, conditions, action: Action::Allow });
        }
    };
    allow(ALLOWED, &[]);
    let when = |argument, op, value| Condition { argument, op, value };
    for value in PERSONALITIES {
        allow("personality", &[when(0, Op::Equal, value)]);
    }
    allow("socket", &[when(0, Op::NotEqual, AF_VSOCK)]);
    for (capability, names) in WITH_CAPABILITY {
        if caps::number(capability).is_some_and(|n| capabilities.has(n)) {
            allow(names, &[]);
        }
    }
    if !capabilities.has(caps::SYS_ADMIN) {
        allow("clone", &[when(0, Op::MaskedEqual(CLONE_NEW), 0)]);
        // Its flags lie in memory, where a filter cannot look: "no such call" makes C libraries
        // fall back to clone.
        let enosys = Action::Errno(libc::ENOSYS as u16);
        rules.extend(number("clone3").map(|call| Rule {
            call,
            conditions: Vec::new(),
            action: enosys,
        }));
    }
    // A call newer than the table does not exist for the container: programs then use what does.
    let newest = super::table::TABLE.last().map_or(0, |(_, n)| *n);
    rules.extend((newest + 1..newest + 64).map(|call| Rule {
        call,
        conditions: Vec::new(),
        action: Action::Errno(libc::ENOSYS as u16),
    }));
    dedup(&mut rules);
    Profile { otherwise: Action::Errno(libc::EPERM as u16), rules }
}

/// Two capabilities may bring the same call.
fn dedup(rules: &mut Vec<Rule>) {
    let mut seen = std::collections::BTreeSet::new();
    rules.retain(|rule| !rule.conditions.is_empty() || seen.insert(rule.call));
}
