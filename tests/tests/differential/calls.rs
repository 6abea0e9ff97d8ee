//! Which scripts there can be: every call about paths, with arguments that are likely to matter.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use sentry_tests::script::{Arg, Script, Step};

/// A script of one to a dozen calls. `special`: also on the read-only and the small file system.
pub fn script(special: bool) -> impl Strategy<Value = Script> {
    vec(step(special), 1..13).prop_map(Script)
}

/// What the planted tree has, and what it has not.
const NAMES: &[&str] = &[
    "d", "d", "d/e", "d/f", "d/e/g", "f", "f", "x", "n", "w", "r", "nd", "nx", "no", "t", "empty", "h", "lf", "ld",
    "lde", "dang", "ddang", "loop", "l1", "up", "ls", "lds", "ln", "dot", "proc", "fds", "cwd", "abs", "lnd", "c38",
    "c39", "c40", "c41", "d/back", "t/f", "t/l", "nd/f", "nx/f", "no/f", "new", "new", "new2", "d/new", "no/new",
    "ld/new", "new/sub", ".", "..",
];

/// Paths that are special as a whole.
const WHOLE: &[&str] = &[
    "",
    ".",
    "..",
    "$",
    "$/",
    "/proc/self",
    "/proc/self/",
    "/proc/thread-self",
    "/proc/self/cwd",
    "/proc/self/cwd/",
    "/proc/thread-self/cwd",
    "/proc/self/fd",
    "/proc/self/fd/",
    "/proc/self/fd/99",
    "/proc/self/status",
    "/proc/self/maps",
    "/proc/self/nothing",
    "/proc/self/exe/x",
];

/// Paths that are special and in a sandbox not as they are natively.
const OF_THE_VIEW: &[&str] = &[
    "null",
    "fd0",
    "/dev/null/",
    "/dev/null/x",
    "/dev/fd/0",
    "/dev/stdin",
    "/proc/self/fd/0",
    "/proc/thread-self/fd/0",
    "/nowhere",
    "/nowhere/x",
    "/",
    "//",
    "/.",
    "/..",
    "/new",
    "/usr",
    "/usr/new",
    "/usr/bin/true",
    "/bin/sh",
    "/etc/passwd",
    "/tmp",
    "/tmp/new",
    "/tmp/new/x",
    "/dev",
    "/dev/null",
    "/dev/tty",
    "/dev/zero",
    "/dev/fd",
    "/dev/ptmx",
    "/dev/new",
    "/dev/shm/new",
    "/proc",
    "/proc/1",
    "/proc/1/exe",
    "/proc/1/fd/0",
    "/proc/1/cwd",
    "/proc/1/maps",
    "/proc/mounts",
    "/proc/self/root",
    "/proc/self/root/",
    "/proc/self/task",
    "/proc/self/exe",
    "/proc/self/mem",
    "/proc/self/environ",
    "/proc/sys/kernel/hostname",
    "/proc/new",
    "/proc/self/ns/mnt",
    "/proc/self/fdinfo/0",
    "/proc/self/oom_score_adj",
    "/proc/self/attr/current",
    "/proc/2/fd/0",
    "/sys",
];

/// Where walks begin.
const BEGINNINGS: &[&str] = &[
    "",
    "",
    "",
    "",
    "",
    "",
    "./",
    "../w/",
    "$/",
    "/proc/self/cwd/",
    "/proc/thread-self/cwd/",
    "proc/cwd/",
    "cwd/",
    "/proc/self/root$/",
    "/proc/self/fd/%0/",
    "/dev/fd/%1/",
    "/proc/thread-self/fd/%0/",
    "fds/%0/",
];

const SPECIAL: &[&str] = &[
    "$ro",
    "$ro/f",
    "$ro/d",
    "$ro/d/f",
    "$ro/l",
    "$ro/dang",
    "$ro/new",
    "$ro/d/new",
    "$small",
    "$small/a",
    "$small/b",
    "$small/new",
    "$small/a/b",
    "$ro/../small/a",
    "$small/../ro/f",
];

/// Paths that are never a FIFO, which would keep a `creat` waiting.
const FRESH: &[&str] = &["fresh", "d/fresh", "nd/fresh", "no/fresh", "fresh/", "", "nowhere/x", "$/fresh", "ld/fresh"];

/// Paths that name a descriptor.
const DESCRIPTORS: &[&str] = &[
    "/proc/self/fd/%0",
    "/proc/self/fd/%1",
    "/dev/fd/%0",
    "/proc/thread-self/fd/%0",
    "/proc/thread-self/fd/%1",
    "fds/%0",
];

fn path(special: bool) -> BoxedStrategy<Arg> {
    let name = || select(NAMES);
    let joined = (
        select(BEGINNINGS),
        name(),
        proptest::option::weighted(0.35, name()),
        select(&["", "", "", "", "", "/", "/.", "//", "/.."][..]),
    )
        .prop_map(|(beginning, first, second, end)| match second {
            Some(second) => format!("{beginning}{first}/{second}{end}"),
            None => format!("{beginning}{first}{end}"),
        });
    let long = select(&[254_usize, 255, 256][..]).prop_map(|length| "N".repeat(length));
    let lengths = select(&[4094_usize, 4095, 4096, 4097, 5000][..]);
    let longest = (lengths, select(&["f", "./new", "d"][..])).prop_map(|(length, end)| {
        let dots = "./".repeat((length - 10) / 2);
        format!("{dots}{}{end}", "/".repeat(length - dots.len() - end.len()))
    });
    let plain = prop_oneof![
        40 => name().prop_map(str::to_owned),
        30 => joined,
        6 => select(WHOLE).prop_map(str::to_owned),
        5 => select(DESCRIPTORS).prop_map(str::to_owned),
        1 => long,
        1 => longest,
    ];
    let paths = if special {
        prop_oneof![
            4 => plain,
            3 => select(SPECIAL).prop_map(str::to_owned),
            1 => select(OF_THE_VIEW).prop_map(str::to_owned)
        ]
        .boxed()
    } else {
        plain.boxed()
    };
    prop_oneof![60 => paths.prop_map(Arg::Path), 1 => Just(Arg::Bad), 1 => Just(Arg::Null)].boxed()
}

fn dir() -> impl Strategy<Value = Arg> {
    prop_oneof![
        6 => Just(Arg::Cwd),
        4 => (0..4_usize).prop_map(Arg::Slot),
        1 => select(&[u64::MAX, 77, 0, 1 << 31, 0xffff_ffff_ffff_fe00][..]).prop_map(Arg::Number),
    ]
}

/// Not a descriptor that the script did not open: `AT_EMPTY_PATH` asks who opened it, which `linkat` tells of as a limit.
fn linked_from() -> impl Strategy<Value = Arg> {
    prop_oneof![6 => Just(Arg::Cwd), 4 => (0..4_usize).prop_map(Arg::Slot), 1 => Just(Arg::Number(77))]
}

/// Any sum of some of these.
fn flags(of: &'static [i32]) -> impl Strategy<Value = i32> {
    vec(select(of), 0..4).prop_map(|flags| flags.into_iter().fold(0, |sum, flag| sum | flag))
}

fn number<N: Into<i64>>(number: N) -> Arg {
    Arg::Number(number.into().cast_unsigned())
}

const AT: &[i32] = &[libc::AT_SYMLINK_NOFOLLOW, libc::AT_EMPTY_PATH];
const AT_RARE: &[i32] = &[
    libc::AT_SYMLINK_NOFOLLOW,
    libc::AT_EMPTY_PATH,
    libc::AT_EMPTY_PATH,
    libc::AT_SYMLINK_FOLLOW,
    libc::AT_NO_AUTOMOUNT,
    libc::AT_EACCESS,
    0x4000_0000,
    1,
];

fn at_flags() -> impl Strategy<Value = Arg> {
    prop_oneof![3 => Just(number(0)), 3 => flags(AT).prop_map(number), 1 => flags(AT_RARE).prop_map(number)]
}

/// `O_NONBLOCK` is always among them: a FIFO must not keep a script waiting.
fn open_flags() -> impl Strategy<Value = i32> {
    let access = select(&[libc::O_RDONLY, libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR, libc::O_RDWR, 3][..]);
    let usual = vec(
        select(
            &[
                libc::O_CREAT,
                libc::O_CREAT,
                libc::O_CREAT,
                libc::O_EXCL,
                libc::O_TRUNC,
                libc::O_DIRECTORY,
                libc::O_NOFOLLOW,
                libc::O_PATH,
                libc::O_APPEND,
                libc::O_CLOEXEC,
                libc::O_TMPFILE,
                libc::O_NOATIME,
                libc::O_SYNC,
                libc::O_DIRECT,
                libc::O_LARGEFILE,
                libc::O_NOCTTY,
                libc::O_ASYNC,
                0x4000_0000,
                i32::MIN,
                4,
            ][..],
        ),
        0..4,
    );
    (access, usual)
        .prop_map(|(access, flags)| flags.into_iter().fold(access | libc::O_NONBLOCK, |sum, flag| sum | flag))
}

fn mode() -> impl Strategy<Value = Arg> {
    select(&[0o644, 0o666, 0o777, 0o600, 0, 0o200, 0o1777, 0o400, 0o111][..]).prop_map(number)
}

fn thread() -> impl Strategy<Value = usize> {
    prop_oneof![8 => Just(0_usize), 2 => Just(1), 1 => Just(2)]
}

fn time() -> impl Strategy<Value = [i64; 2]> {
    (
        select(&[0_i64, 1, 1000, -1, i64::MAX, 86400][..]),
        select(&[0, 5, 999_999_999, 1_000_000_000, -1, libc::UTIME_NOW, libc::UTIME_OMIT][..]),
    )
        .prop_map(|(seconds, nanoseconds)| [seconds, nanoseconds])
}

fn times() -> impl Strategy<Value = Arg> {
    prop_oneof![
        8 => (time(), time()).prop_map(|(a, b)| Arg::Times([a[0], a[1], b[0], b[1]])),
        2 => Just(Arg::Null),
        1 => Just(Arg::Bad)
    ]
}

fn out() -> impl Strategy<Value = Arg> {
    prop_oneof![30 => Just(Arg::Out), 1 => Just(Arg::Bad), 1 => Just(Arg::Null)]
}

fn size() -> impl Strategy<Value = Arg> {
    select(&[4096_i64, 4096, 4096, 0, 1, 3, 8, 20, 65536, 65537, -1][..]).prop_map(number)
}

fn attribute() -> impl Strategy<Value = Arg> {
    let long = "user.".to_owned() + &"n".repeat(251);
    prop_oneof![
        8 => select(&["user.x", "user.x", "user.y", "system.posix_acl_access", "system.posix_acl_default", "trusted.x", "security.x",
            "security.capability", "nothing", "", "user.", "security.selinux"][..]).prop_map(|name| Arg::Bytes(name.into())),
        1 => Just(Arg::Bytes(long)),
        1 => Just(Arg::Bad),
    ]
}

/// Ids of others exist natively, in a sandbox they do not.
fn value(special: bool) -> impl Strategy<Value = (Arg, Arg)> {
    prop_oneof![
        4 => select(&["v", "", "value"][..]).prop_map(|value| (Arg::Bytes(value.into()), number(value.len() as i64))),
        3 => select(if special { &[-1_i64, 0, 1, 65534, 1000][..] } else { &[-1][..] }).prop_map(|user| (Arg::List(user), number(44))),
        1 => select(&[0_i64, 3, 65536, 65537][..]).prop_map(|size| (Arg::Out, number(size))),
        1 => Just((Arg::Bad, number(3))),
    ]
}

fn id(special: bool) -> impl Strategy<Value = Arg> {
    let others = select(if special { &[0_i64, 1, 65534][..] } else { &[-1][..] });
    prop_oneof![4 => Just(Arg::Own), 3 => Just(number(-1)), 1 => others.prop_map(number)]
}

fn outside_descriptors(path: &Arg) -> bool {
    !matches!(path, Arg::Path(path) if path.contains("fd") && !path.contains("fd/%") && !path.contains("fds/%"))
}

fn no_descriptor(path: &Arg) -> bool {
    let names_one =
        |path: &str| path.rsplit('%').next().is_some_and(|end| !end.contains(|byte: char| byte.is_ascii_alphabetic()));
    outside_descriptors(path) && !matches!(path, Arg::Path(path) if path.contains("fd") && names_one(path))
}

/// An unnamed file in the directory of own descriptors: the same limit.
fn is_usual(step: &Step) -> bool {
    let temporary = |arg: &Arg| match arg {
        Arg::Number(flags) => flags & 0o20_000_000 != 0,
        Arg::How([flags, ..]) => flags & 0o20_000_000 != 0,
        _ => false,
    };
    !step.call.starts_with("open") || !step.args.iter().any(temporary) || step.args.iter().all(outside_descriptors)
}

fn outside_proc(path: &Arg) -> bool {
    !matches!(path, Arg::Path(path) if path.contains("proc") || path.contains("fd"))
}

/// A call and its arguments.
type Call = BoxedStrategy<(String, Vec<Arg>)>;

fn call(name: &'static str, args: impl Strategy<Value = Vec<Arg>> + 'static) -> Call {
    args.prop_map(move |args| (name.to_owned(), args)).boxed()
}

/// The arguments of a call, one strategy each.
macro_rules! args {
    ($($arg:expr),+ $(,)?) => { vec![$($arg.boxed()),+] };
}

const fn open_how() -> &'static [u64] {
    &[
        0,
        0,
        0,
        libc::RESOLVE_BENEATH,
        libc::RESOLVE_IN_ROOT,
        libc::RESOLVE_NO_MAGICLINKS,
        libc::RESOLVE_NO_SYMLINKS,
        libc::RESOLVE_NO_XDEV,
    ]
}

fn step(special: bool) -> impl Strategy<Value = Step> {
    let p = || path(special);
    // A process may do to its own `/proc/self/fd` what its permissions forbid; `access` tells of this as a limit.
    let x = || path(special).prop_filter("own descriptors as a directory", outside_descriptors).boxed();
    let q = || path(special).prop_filter("a name among own descriptors", no_descriptor).boxed();
    let opens = || open_flags().prop_map(number);
    // What openat2 answers ENOSYS by design is left out: O_PATH.
    let how = (open_flags(), select(&[0_u64, 0o644, 0o600, 0o777][..]), select(open_how()), select(open_how()))
        .prop_map(|(flags, mode, a, b)| {
            let flags = flags & !libc::O_PATH;
            let creates = flags & (libc::O_CREAT | 0o20_000_000) != 0;
            Arg::How([u64::from(flags.cast_unsigned() & 0x7fff_ffff), if creates { mode } else { 0 }, a | b])
        });
    let new_node = select(&[libc::S_IFREG, libc::S_IFIFO, libc::S_IFSOCK, libc::S_IFCHR, libc::S_IFDIR, 0][..])
        .prop_map(|kind| number(kind | 0o644));
    let rename_flags =
        select(&[0_u32, 0, libc::RENAME_NOREPLACE, libc::RENAME_EXCHANGE, libc::RENAME_WHITEOUT, 3, 8][..])
            .prop_map(number);
    let resized = select(&[0_i64, 3, 5000, -1][..]).prop_map(number);
    let mask = select(&[0x7ff_u32, 0xfff, 0, 0x800, 0x8000_0000][..]).prop_map(number);
    let access = select(&[0_i64, 1, 2, 4, 6, 7, 8][..]).prop_map(number);
    let watch = select(
        &[
            libc::IN_ALL_EVENTS,
            libc::IN_CREATE,
            libc::IN_MODIFY | libc::IN_DONT_FOLLOW,
            libc::IN_ONLYDIR | libc::IN_OPEN,
            0,
        ][..],
    )
    .prop_map(number);
    let small = select(&[4096_i64, 0, -1][..]).prop_map(number);
    let set_flags = || select(&[0_i64, 0, 1, 2, 4][..]).prop_map(number);
    let told = (select(&[0_u32, 3, 100, 65536, 65537][..]), select(&[0_u32, 0, 1, 2, 4][..]))
        .prop_map(|(size, flags)| Arg::Attribute([size, flags]));
    let slot = || (0..3_usize).prop_map(Arg::Slot);
    let calls: Vec<(u32, Call)> = vec![
        (8, call("openat", args![dir(), p(), opens(), mode()])),
        (4, call("open", args![p(), opens(), mode()])),
        (1, call("creat", args![select(FRESH).prop_map(|path| Arg::Path(path.into())), mode()])),
        (5, call("openat2", args![dir(), p(), how, Just(number(24))])),
        (2, call("stat", args![p(), out()])),
        (2, call("lstat", args![p(), out()])),
        (4, call("newfstatat", args![dir(), p(), out(), at_flags()])),
        (4, call("statx", args![dir(), p(), at_flags(), mask, out()])),
        (2, call("access", args![x(), access.clone()])),
        (2, call("faccessat2", args![dir(), x(), access, at_flags()])),
        (2, call("readlink", args![p(), out(), small.clone()])),
        (2, call("readlinkat", args![dir(), p(), out(), small])),
        (2, call("statfs", args![p(), out()])),
        (2, call("mkdir", args![q(), mode()])),
        (2, call("mkdirat", args![dir(), q(), mode()])),
        (2, call("mknodat", args![dir(), q(), new_node, Just(number(0))])),
        (3, call("unlink", args![q()])),
        (2, call("unlinkat", args![dir(), q(), select(&[0_i64, 0x200, 1][..]).prop_map(number)])),
        (2, call("rmdir", args![q()])),
        (3, call("rename", args![q(), q()])),
        (3, call("renameat2", args![dir(), q(), dir(), q(), rename_flags])),
        (2, call("link", args![p(), q()])),
        (
            4,
            call(
                "linkat",
                args![
                    linked_from(),
                    p(),
                    dir(),
                    q(),
                    select(&[0, 0, 0x400, 0x400, 0x1000, 0x1400, 1][..]).prop_map(number)
                ],
            ),
        ),
        (2, call("symlink", args![q(), q()])),
        (1, call("symlinkat", args![q(), dir(), q()])),
        (2, call("chmod", args![p(), mode()])),
        (1, call("fchmodat", args![dir(), p(), mode()])),
        (2, call("fchmodat2", args![dir(), p(), mode(), at_flags()])),
        (1, call("chown", args![p(), id(special), id(special)])),
        (1, call("lchown", args![p(), id(special), id(special)])),
        (2, call("fchownat", args![dir(), p(), id(special), id(special), at_flags()])),
        (4, call("utimensat", args![dir(), p(), times(), at_flags()])),
        (1, call("utimes", args![p(), times()])),
        (1, call("futimesat", args![dir(), p(), times()])),
        (1, call("utime", args![p(), times()])),
        (3, call("truncate", args![p(), resized])),
        (2, call("getxattr", args![x(), attribute(), out(), size()])),
        (1, call("lgetxattr", args![x(), attribute(), out(), size()])),
        (1, call("listxattr", args![x(), out(), size()])),
        (1, call("llistxattr", args![x(), out(), size()])),
        (1, call("removexattr", args![x(), attribute()])),
        (1, call("lremovexattr", args![x(), attribute()])),
        (3, set_attribute("setxattr", x(), special, set_flags().boxed())),
        (1, set_attribute("lsetxattr", x(), special, set_flags().boxed())),
        (1, call("getxattrat", args![dir(), x(), at_flags(), attribute(), told.clone(), Just(number(16))])),
        (1, call("listxattrat", args![dir(), x(), at_flags(), out(), size()])),
        (1, call("removexattrat", args![dir(), x(), at_flags(), attribute()])),
        (1, call("setxattrat", args![dir(), x(), at_flags(), attribute(), told, Just(number(16))])),
        (1, call("inotify_add_watch", args![slot(), p(), watch])),
        (1, call("getdents64", args![slot(), out(), select(&[4096_i64, 20, 0][..]).prop_map(number)])),
        (
            3,
            call(
                "chdir",
                args![
                    select(&["d", "d/e", "ld", "..", "$", "nx", "t", "no", "dot", "$/d", "proc/cwd"][..])
                        .prop_map(|path| Arg::Path(path.into()))
                ],
            ),
        ),
        (1, call("fchdir", args![slot()])),
        (1, call("getcwd", args![Just(Arg::Out), Just(number(4096))])),
        (1, call("fstat", args![slot(), out()])),
        (1, call("close", args![slot()])),
        (1, call("umask", args![select(&[0_i64, 0o77, 0o777, 0o27][..]).prop_map(number)])),
        (2, call("bind-path", args![q()])),
        (
            2,
            call(
                "connect-path",
                args![p().prop_filter("not in /proc, whose permissions depend on who asks", outside_proc)],
            ),
        ),
    ];
    (thread(), proptest::strategy::Union::new_weighted(calls))
        .prop_map(|(thread, (call, args))| Step { thread, call, args })
        .prop_filter("an unnamed file among own descriptors", is_usual)
}

fn set_attribute(name: &'static str, path: BoxedStrategy<Arg>, special: bool, flags: BoxedStrategy<Arg>) -> Call {
    (path, attribute(), value(special), flags)
        .prop_map(move |(path, attribute, (value, size), flags)| {
            (name.to_owned(), vec![path, attribute, value, size, flags])
        })
        .boxed()
}
