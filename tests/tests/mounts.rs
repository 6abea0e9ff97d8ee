//! `--allow mount`: what a program may mount within its view, and that nothing comes to light by it.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::os::unix::net::UnixListener;
use std::process::Stdio;

use sentry_tests::{Outcome, Project, Sandbox, as_user, has, outcome, site, skip};

/// mount(2) and umount2(2) as functions that return `ok` or the errno's name.
const PRELUDE: &str = r#"
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
RO, NOSUID, NODEV, NOEXEC, REMOUNT, BIND, MOVE, REC = 1, 2, 4, 8, 32, 4096, 8192, 16384
UNBINDABLE, PRIVATE, SLAVE, SHARED = 1 << 17, 1 << 18, 1 << 19, 1 << 20
DETACH, EXPIRE, NOFOLLOW = 2, 4, 8
def answer(result): return 'ok' if result == 0 else errno.errorcode[ctypes.get_errno()]
def raw(text): return None if text is None else os.fsencode(text)
def mount(source, target, kind=None, flags=0, data=None):
    return answer(libc.mount(raw(source), raw(target), raw(kind), ctypes.c_ulong(flags), raw(data)))
def umount(target, flags=0): return answer(libc.umount2(raw(target), flags))
def dirs(*names):
    for name in names: os.makedirs(name, exist_ok=True)
def table(): return [line.split() for line in open('/proc/self/mountinfo')]
def at(place): return [line for line in table() if line[4] == place]
def text(path):
    try: return open(path).read()
    except OSError as error: return errno.errorcode[error.errno]
def expect(wanted, *found):
    if any(one != wanted for one in found): sys.exit('wanted %r, found %r, line %d' % (wanted, found, sys._getframe(1).f_lineno))
"#;

fn python(project: &Project, options: &[&str], script: &str) -> Outcome {
    let script = [PRELUDE, script].concat();
    Sandbox::new(project).options(["--allow", "mount"]).options(options).run(["python3", "-c", &script])
}

#[test]
fn each_kind_is_mounted_and_seen_in_the_table() {
    let script = r#"
os.chdir('/tmp')
dirs('a/b', 'b', 'c', 'p', 's', 't', 'q', 'o', 'low', 'r')
expect('ok', mount('mine', 'a', 'tmpfs', NOEXEC, 'size=1m,mode=0700'))
expect(1 << 20, os.statvfs('a').f_blocks * 4096); expect(0o40700, os.stat('a').st_mode)
expect(os.getuid(), os.stat('a').st_uid)
line = at('/tmp/a')[0]
expect({'rw', 'nosuid', 'nodev', 'noexec', 'relatime'}, set(line[5].split(',')))
expect(['-', 'tmpfs', 'mine'], line[6:9])
open('a/x', 'w').write('one')
expect('ok', mount('none', 'r', 'ramfs', 0, 'mode=755'), mount('/tmp/a', 'c', None, BIND))
expect('one', text('c/x'))
expect('ok', mount(None, 'c', None, REMOUNT | BIND | RO))
try: open('c/y', 'w'); sys.exit('written')
except OSError as error: expect(errno.EROFS, error.errno)
expect('ok', mount(None, 'c', None, REMOUNT | BIND)); open('c/y', 'w').close()
expect('ok', mount('a', 'b', None, MOVE)); expect(True, os.path.exists('b/x')); expect([], at('/tmp/a'))
expect('ok', mount(None, 'b', None, REMOUNT, 'size=2m')); expect(2 << 20, os.statvfs('b').f_blocks * 4096)
expect('ok', mount('proc', 'p', 'proc')); expect(str(os.getpid()), os.readlink('p/self'))
expect('ok', mount('pts', 't', 'devpts', 0, 'newinstance,ptmxmode=0666,gid=5')); os.close(os.open('t/ptmx', os.O_RDWR | os.O_NOCTTY))
expect('ok', mount('q', 'q', 'mqueue'))
open('low/f', 'w').write('low'); dirs('b/u', 'b/w')
expect('ok', mount('o', 'o', 'overlay', 0, 'lowerdir=/usr/share:low,upperdir=b/u,workdir=b/w'))
open('o/f', 'a').write('er'); expect('lower', text('o/f'), text('b/u/f')); expect('low', text('low/f'))
os.unlink('o/f'); expect('ENOENT', text('o/f')); expect(True, os.path.isdir('o/doc'))
for flags in (SHARED, SLAVE | REC, PRIVATE, UNBINDABLE, PRIVATE | REC): expect('ok', mount(None, 'b', None, flags))
for name in ('o', 'q', 't', 'p', 'b', 'c', 'r'): expect('ok', umount(name))
expect([], [line for line in table() if line[4].startswith('/tmp/')])
"#;
    python(&Project::new(), &[], script).exits(0);
}

#[test]
fn the_errnos_are_the_kernels() {
    let script = r#"
os.chdir('/tmp')
dirs('d', 'e'); open('f', 'w').close(); os.symlink('d', 'l')
expect('ENODEV', mount('x', 'd', 'nonesuch'))
expect('ENOENT', mount('x', 'nope', 'tmpfs'), mount('nope', 'd', None, BIND), umount('nope'), mount('x', '', 'tmpfs'))
expect('EINVAL', mount('x', 'd'), mount('', 'd', None, BIND), mount('x', 'd', 'tmpfs', 0, 'sise=1'), umount('d'), umount('d', 64),
       umount('d', DETACH | EXPIRE), mount(None, 'd', None, SHARED | PRIVATE), mount('d', 'e', None, MOVE), mount(None, 'd', None, REMOUNT | RO),
       mount('x', 'd', 'overlay', 0, 'lowerdir=e,upperdir=e'), mount('x', 'd', 'tmpfs', 0, 'uid=54321'))
expect('ENOTDIR', mount('x', 'f', 'tmpfs'), mount('d', 'f', None, BIND), mount('f', 'd', None, BIND), mount('f/x', 'd', None, BIND))
expect('EPERM', mount('/dev/sda1', 'd', 'ext4'), mount('img', 'd', 'squashfs'), mount('s', 'd', 'sysfs'))
expect(-1, libc.mount(ctypes.c_void_p(8), b'/tmp/d', b'tmpfs', ctypes.c_ulong(0), None)); expect(errno.EFAULT, ctypes.get_errno())
expect('ok', mount('x', 'l', 'tmpfs')); expect(1, len(at('/tmp/d')))
expect('EINVAL', umount('l', NOFOLLOW))
held = open('d/held', 'w')
expect('EBUSY', umount('l')); held.close()
expect('EAGAIN', umount('d', EXPIRE)); expect('ok', umount('d', EXPIRE))
expect('ok', mount('x', 'd', 'tmpfs')); held = open('d/held', 'w+'); expect('ok', umount('d', DETACH)); held.write('still'); held.flush()
expect('EINVAL', umount('d')); expect([], os.listdir('d'))
open('g', 'w').close(); expect('ok', mount('f', 'g', None, BIND), umount('g'))
"#;
    let run = python(&Project::new(), &[], script).exits(0);
    run.says("no device and no image of one can be mounted inside").says("allow with --read /sys");
}

#[test]
fn sysfs_is_what_the_view_has_of_it() {
    let script = r#"
dirs('/tmp/s'); expect('ok', mount('sysfs', '/tmp/s', 'sysfs')); expect(os.listdir('/sys').sort(), os.listdir('/tmp/s').sort())
expect(True, all('ro' in line[5].split(',') for line in at('/tmp/s'))); expect('ok', umount('/tmp/s'))
"#;
    python(&Project::new(), &["--read", "/sys"], script).exits(0);
}

#[test]
fn a_bind_takes_along_what_is_locked_and_goes_by_one_unmount() {
    let script = r#"
os.chdir('/tmp'); dirs('p', 'd', 'r')
expect('ok', mount('/proc', 'p', None, BIND), mount('/dev', 'd', None, BIND), mount('/', 'r', None, BIND))
expect(False, ':' in text('p/keys'), ':' in text('p/timer_list')); open('d/null', 'w').write('x'); expect(True, os.path.exists('r/usr/bin'))
expect('ok', umount('p'), umount('d'), umount('r'))
expect('ok', mount('p', 'p', 'proc'), mount('x', 'p/irq', 'tmpfs')); expect('EBUSY', umount('p')); expect('ok', umount('p/irq'), umount('p'))
expect('ok', mount('/', 'r', None, BIND | REC)); expect('EBUSY', umount('r')); expect('ok', umount('r', DETACH))
"#;
    python(&Project::new(), &[], script).exits(0);
}

/// What is covered in the view: by an option for an exact name, by the `/proc` of the sandbox, by fewer rights.
#[test]
fn covered_names_do_not_come_to_light() {
    let project = Project::new();
    for name in ["w/closed/secret", "w/denied/secret", "w/fixed/file", "w/sub/deep/key", "w/open/x"] {
        project.write(name, "SECRET");
    }
    for name in ["w", "w/sub"] {
        project.give(&project.join(name));
    }
    let path = |name: &str| project.join(name).to_str().unwrap().to_owned();
    let script = format!(
        r#"
W = {w:?}
os.chdir('/tmp'); dirs('m', 'n', 'o', 't'); expect('ok', mount('x', 't', 'tmpfs')); dirs('t/u', 't/k')
CLOSED = [W + '/closed', W + '/denied', W + '/sub/deep/key']
def probe(base):
    for name in ('closed/secret', 'denied/secret', 'sub/deep/key'):
        if 'SECRET' in text(os.path.join(base, name)): sys.exit('revealed by ' + base + '/' + name)
    try: open(os.path.join(base, 'fixed/file'), 'a').write('x'); sys.exit('written by ' + base)
    except OSError: pass
    for name in ('fixed/new', 'closed/new', 'denied/new'):
        try: open(os.path.join(base, name), 'w'); sys.exit('made by ' + base + '/' + name)
        except OSError: pass
before = [line[:6] for line in table()]
for place in CLOSED + [W + '/fixed', W, '/proc/keys', '/proc/sys', '/proc', '/usr', '/dev/null', '/']:
    for flags in (0, DETACH, 1, EXPIRE, NOFOLLOW):
        if umount(place, flags) == 'ok': sys.exit('unmounted ' + place)
    if mount(place, '/tmp/n', None, MOVE) == 'ok': sys.exit('moved ' + place)
    if place not in ('/', '/dev/null') and mount(None, place, None, REMOUNT | BIND) == 'ok' and [l for l in at(place) if 'ro' in l[5].split(',')] == []:
        if place == W + '/fixed' or place == '/usr': sys.exit('made writable ' + place)
probe(W)
for source, flags in ((W, BIND), (W, BIND | REC), (os.path.dirname(W), BIND), (os.path.dirname(W), BIND | REC), ('/', BIND | REC)):
    result = mount(source, '/tmp/m', None, flags)
    if result == 'ok':
        base = '/tmp/m' + W if source == '/' else '/tmp/m' if source == W else '/tmp/m/w'
        probe(base)
        for name in ('closed', 'denied', 'sub/deep/key', 'fixed'):
            for how in (0, DETACH): umount(os.path.join(base, name), how)
            mount(os.path.join(base, name), '/tmp/n', None, MOVE); mount(None, os.path.join(base, name), None, REMOUNT | BIND)
        probe(base)
        expect('ok', mount('/tmp/m', '/tmp/n', None, MOVE)); probe(base.replace('/tmp/m', '/tmp/n', 1)); expect('ok', umount('/tmp/n', DETACH))
# What cannot be bound must not be left out where it covers.
mount(None, W + '/closed', None, UNBINDABLE); mount(None, W + '/denied', None, UNBINDABLE); mount(None, W + '/sub/deep/key', None, UNBINDABLE)
for flags in (BIND, BIND | REC):
    if mount(W, '/tmp/m', None, flags) == 'ok': probe('/tmp/m'); expect('ok', umount('/tmp/m', DETACH))
for layers in (f'lowerdir={{W}}', f'lowerdir=/tmp/o:{{W}}', f'lowerdir=/tmp/o,upperdir={{W}},workdir=/tmp/t/k', f'lowerdir={{W}},upperdir=/tmp/t/u,workdir=/tmp/t/k',
               f'lowerdir={{W}}/sub/deep:/tmp/o', f'lowerdir=/proc:/tmp/o'):
    if mount('x', '/tmp/m', 'overlay', 0, layers) == 'ok':
        probe('/tmp/m')
        if 'SECRET' in text('/tmp/m/key'): sys.exit('revealed by ' + layers)
        expect('ok', umount('/tmp/m'))
for name in ('closed', 'denied'):
    for how in (BIND, BIND | REC):
        if mount(f'{{W}}/{{name}}', '/tmp/m', None, how) == 'ok':
            if 'SECRET' in text('/tmp/m/secret'): sys.exit('revealed by bind of ' + name)
            expect('ok', umount('/tmp/m'))
# A mount that is shared with a copy of the view does not carry an unmount back.
mount(None, W, None, SHARED | REC)
if mount(W, '/tmp/m', None, BIND | REC) == 'ok':
    for name in ('closed', 'denied', 'sub/deep/key'): umount('/tmp/m/' + name, DETACH)
    umount('/tmp/m', DETACH)
probe(W)
after = [line[:6] for line in table()]
expect([], [line for line in before if line[0] not in [other[0] for other in after]])
"#,
        w = path("w")
    );
    let options = [
        "--write",
        &path("w"),
        "--hide",
        &path("w/closed"),
        "--deny",
        &path("w/denied"),
        "--read",
        &path("w/fixed"),
        "--hide",
        &path("w/sub/deep/key"),
    ];
    // Judged by the sentry as well, because the grant is shared with the host; and by mounts alone.
    python(&project, &options, &script).exits(0);
    let readable = ["--read", &path("w"), "--hide", &path("w/closed"), "--deny", &path("w/denied")];
    let deep = path("w/sub/deep/key");
    let readable = [&readable[..], &["--hide", &deep]].concat();
    python(&project, &readable, &script).exits(0);
    assert_eq!(project.read("w/fixed/file"), "SECRET");
    assert!(!project.has("w/fixed/new") && !project.has("w/closed/new"));
}

/// Rules about paths hold by name: what they speak of is not given another one.
#[test]
fn no_mount_walks_around_a_rule_about_paths() {
    let project = Project::new();
    for name in ["w/key.pem", "w/sub/key.pem", "w/sub/plain", "other/x", "lock/a.lock", "free/x"] {
        project.write(name, "SECRET");
    }
    project.give(&project.join("w"));
    let root = project.path().to_str().unwrap().to_owned();
    let script = format!(
        r#"
R = {root:?}
os.chdir('/tmp'); dirs('m', 't', '/tmp/lock'); expect('ok', mount('x', 't', 'tmpfs')); dirs('t/u', 't/k')
for source in (R + '/w', R + '/w/sub', R, '/', R + '/lock'):
    expect('EPERM', mount(source, '/tmp/m', None, BIND), mount(source, '/tmp/m', None, BIND | REC), mount('o', '/tmp/m', 'overlay', 0, 'lowerdir=/usr:' + source),
           mount('o', '/tmp/m', 'overlay', 0, f'lowerdir=/usr,upperdir={{source}},workdir=/tmp/t/k'), mount('o', '/tmp/m', 'overlay', 0, f'lowerdir=/usr,upperdir=/tmp/t/u,workdir={{source}}'))
expect('ENOENT', mount(R + '/w/key.pem', '/tmp/m', None, BIND))
expect('EINVAL', mount('o', '/tmp/m', 'overlay', 0, f'lowerdir=/usr,upperdir={{R}}/other,workdir={{R}}/free'))
expect('ok', mount(R + '/other', '/tmp/m', None, BIND)); expect('SECRET', text('/tmp/m/x')); expect('ok', umount('/tmp/m'))
expect('ok', mount('/usr/share', '/tmp/m', None, BIND), umount('/tmp/m'))
"#
    );
    let (hide, read) = (format!("{root}/w/**/*.pem"), format!("{root}/lock/*.lock"));
    let run = python(&project, &["--write", &root, "--hide", &hide, "--read", &read], &script).exits(0);
    run.says("would not hold at another one");

    // A name that must not come to be, and the way to one that is protected.
    let script = format!(
        r#"
R = {root:?}
os.chdir('/tmp'); dirs('m')
for source in (R, R + '/.git'):
    for flags in (BIND, BIND | REC):
        if mount(source, '/tmp/m', None, flags) == 'ok':
            base = '/tmp/m' if source != R else '/tmp/m/.git'
            for act in (lambda: os.rename(base + '/hooks', base + '/old'), lambda: os.mkdir(base + '/hooks'), lambda: open(base + '/hooks/post-commit', 'w').write('evil')):
                try: act()
                except OSError: pass
            umount('/tmp/m', DETACH)
for source in (R, R + '/.git'):
    for flags in (BIND, BIND | REC):
        if mount(source, '/tmp/m', None, flags) == 'ok':
            try: os.mkdir('/tmp/m/absent')
            except OSError: pass
            umount('/tmp/m', DETACH)
"#
    );
    project.write(".git/config", "");
    project.give(&project.join(".git"));
    python(
        &project,
        &["--write", &root, "--hide", &format!("{root}/absent"), "--hide", &format!("{root}/.git/absent")],
        &script,
    )
    .exits(0);
    assert!(!project.has("absent") && !project.has(".git/absent"));
    let _ = std::fs::remove_dir_all(project.join(".git/hooks"));
    let _ = std::fs::remove_dir_all(project.join(".git/old"));
    project.write(".git/hooks/pre-commit", "mine");
    python(&project, &["--write", &root], &script).exits(0);
    assert!(!project.has(".git/hooks/post-commit") && !project.has(".git/old"));
    assert_eq!(project.read(".git/hooks/pre-commit"), "mine");
}

#[test]
fn a_granted_socket_is_no_place_for_another_one() {
    let project = Project::new();
    project.write("w/x", "");
    let (granted, other) = (project.join("granted.sock"), project.join("w/other.sock"));
    let listeners = [&granted, &other].map(|path| UnixListener::bind(path).unwrap());
    for path in [&granted, &other] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        project.give(path);
    }
    let script = format!(
        r#"
import socket
def reaches(path):
    try: socket.socket(socket.AF_UNIX).connect(path); return True
    except OSError: return False
G, O = {granted:?}, {other:?}
expect(True, reaches(G)); expect(False, reaches(O))
dirs('/tmp/m'); open('/tmp/s', 'w').close()
mount(O, G, None, BIND); mount(O, '/tmp/s', None, BIND); mount(os.path.dirname(O), '/tmp/m', None, BIND)
expect(False, reaches('/tmp/s'), reaches('/tmp/m/other.sock'), reaches(O))
expect('EPERM', mount(O, G, None, BIND))
"#
    );
    let options =
        ["--write", granted.to_str().unwrap(), "--read", project.join("w").to_str().unwrap()].map(str::to_owned);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    python(&project, &options, &script).exits(0);
    drop(listeners);
}

/// A link that leads to a directory that may be bound, to a hidden one and out of the view by turns.
#[test]
fn links_that_change_while_one_mounts_lead_nowhere_else() {
    let project = Project::new();
    for name in ["good/k", "w/closed/k", "w/x", "out/k"] {
        project.write(name, if name == "good/k" { "free" } else { "SECRET" });
    }
    project.give(&project.join("w"));
    let root = project.path().to_str().unwrap().to_owned();
    let race = format!(
        r#"
import threading, time
R = {root:?}; T = sys.argv[1]; TIMES = int(sys.argv[2])
os.chdir(T); dirs('m')
names = [R + '/good', R + '/w/closed', R + '/out', R + '/w']
done = False
def flip():
    turn = 0
    while not done:
        turn += 1
        os.symlink(names[turn % 4], 'next'); os.rename('next', 'link')
os.symlink(names[0], 'link')
thread = threading.Thread(target=flip); thread.start()
seen = {{'free': 0, 'SECRET': 0}}
for turn in range(TIMES):
    if turn % 3 == 0: mount('link', 'm', None, BIND)
    elif turn % 3 == 1: mount('link', 'm', None, BIND | REC)
    else: mount('o', 'm', 'overlay', 0, 'lowerdir=link:' + R + '/good/e')
    for name in ('m/k', 'm/closed/k'):
        found = text(name)
        if found in seen: seen[found] += 1
    while umount('m', DETACH) == 'ok': pass
done = True; thread.join()
print(seen['free'], seen['SECRET'])
"#
    );
    let race = [PRELUDE, &race].concat();
    std::fs::create_dir(project.join("good/e")).unwrap();
    project.give(&project.join("good/e"));
    let counts = |outcome: &Outcome| {
        let numbers: Vec<u64> = outcome.out.split_whitespace().map(|word| word.parse().unwrap()).collect();
        let [free, secret] = numbers[..] else { panic!("{outcome:?}") };
        (free, secret)
    };
    let patterned = format!("{root}/w/*.y");
    let (good, w, closed) = (format!("{root}/good"), format!("{root}/w"), format!("{root}/w/closed"));
    for access in ["--read", "--write"] {
        let options = ["--allow", "mount", "--quiet", "--read", &good, access, &w, "--hide", &closed];
        let options =
            if access == "--write" { [&options[..], &["--deny", &patterned]].concat() } else { options.to_vec() };
        let elsewhere = Project::new();
        let run = Sandbox::new(&elsewhere).options(options).run(["python3", "-c", &race, "/tmp", "6000"]).exits(0);
        let (free, secret) = counts(&run);
        assert_eq!(secret, 0, "{access}: {run:?}");
        assert!(free > 100, "{access}: the allowed meaning hardly came through: {run:?}");
    }
    let mut native = as_user("unshare");
    native.args(["-Urm", "python3", "-c", &race]).arg(project.path()).arg("2000").current_dir(project.path());
    let native = outcome(native);
    if native.code != 0 {
        skip!("no user namespaces for the control: {}", native.err);
    }
    assert!(counts(&native).1 > 10, "the control must win, or nothing was tried: {native:?}");
}

fn host_mounts() -> String {
    std::fs::read_to_string("/proc/1/mountinfo").or_else(|_| std::fs::read_to_string("/proc/self/mountinfo")).unwrap()
}

#[test]
fn a_thousand_mounts_and_none_of_them_on_the_host() {
    let project = Project::new();
    let root = project.path().to_str().unwrap().to_owned();
    let script = format!(
        r#"
R = {root:?}
for number in range(1000):
    dirs(f'{{R}}/{{number}}')
    expect('ok', mount('x', f'{{R}}/{{number}}', 'tmpfs'))
open(R + '/7/inside', 'w').write('x')
print(len([line for line in table() if line[4].startswith(R + '/')]), flush=True)
sys.stdin.readline()
for number in range(1000): expect('ok', umount(f'{{R}}/{{number}}'))
"#
    );
    let before = host_mounts();
    let script = [PRELUDE, &script].concat();
    let sandbox = Sandbox::new(&project).options(["--allow", "mount", "--write", &root]);
    let mut command = sandbox.command(["python3", "-c", &script]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut line).unwrap();
    let (during, inside) = (host_mounts(), project.has("7/inside"));
    drop(child.stdin.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(line, "1000\n", "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(!during.contains(&root) && !inside, "the host sees a mount");
    assert!(!host_mounts().contains(&root) && !before.contains(&root));
    // Mounts of its own are no mounts of the view that are gone.
    assert!(!String::from_utf8_lossy(&ended.stderr).contains("replaced"), "{ended:?}");
}

#[test]
fn memory_is_bounded_whatever_is_mounted() {
    let script = r#"
os.chdir('/tmp'); dirs('d')
sizes, held = [], []
while mount('x', 'd', 'tmpfs', 0, 'size=1g') == 'ok':
    sizes.append(os.statvfs('d').f_blocks * 4096)
    held.append(open('d/f', 'w'))
    if len(sizes) % 2: expect('ok', umount('d', DETACH))
expect(True, sum(sizes) <= 64 << 20, len(sizes) > 3); expect('ENOSPC', mount('x', 'd', 'tmpfs'))
expect('ENOSPC', mount('x', 'd', 'ramfs'))
for file in held: file.close()
while umount('d') == 'ok': pass
expect('ok', mount('x', 'd', 'tmpfs', 0, 'size=90%')); written = 0
try:
    with open('d/f', 'wb') as file:
        while True: written += file.write(bytes(1 << 20)); file.flush()
except OSError as error: expect(errno.ENOSPC, error.errno)
expect(True, written < 64 << 20)
"#;
    python(&Project::new(), &["--disk", "64M"], script).exits(0);
}

#[test]
fn what_an_overlay_has_of_memory_stays_on_the_account() {
    let script = r#"
os.chdir('/tmp'); dirs('m', 'low'); written = 0
for number in range(8):
    if mount('x', 'm', 'tmpfs', 0, 'size=1g') != 'ok': break
    over = 'over%d' % number; dirs('m/u', 'm/w', over)
    expect('ok', mount('x', over, 'overlay', 0, 'lowerdir=low,upperdir=m/u,workdir=m/w'), umount('m'))
    try:
        with open(over + '/f', 'wb') as file:
            while True: written += file.write(bytes(1 << 18)); file.flush()
    except OSError as error: expect(errno.ENOSPC, error.errno)
expect(True, number > 1, written <= 64 << 20); expect('ENOSPC', mount('x', 'm', 'tmpfs'))
for gone in range(number): expect('ok', umount('over%d' % gone))
expect('ok', mount('x', 'm', 'tmpfs', 0, 'size=1m'))
"#;
    python(&Project::new(), &["--disk", "64M"], script).exits(0);
}

#[test]
fn layers_of_overlays_are_mounts_too() {
    let script = r#"
os.chdir('/tmp'); layers = ['l%d' % number for number in range(100)]; dirs(*layers)
for number in range(200):
    dirs('o%d' % number)
    if mount('x', 'o%d' % number, 'overlay', 0, 'lowerdir=' + ':'.join(layers)) != 'ok': break
expect('ENOSPC', mount('x', 'l0', 'tmpfs')); expect(True, 90 < number < 101)
expect('ok', umount('o0'), mount('x', 'l0', 'tmpfs'), umount('o1', DETACH))
"#;
    python(&Project::new(), &[], script).exits(0);
}

#[test]
fn a_resize_makes_no_room_that_is_not_there() {
    let script = r#"
os.chdir('/tmp'); dirs('a', 'b'); held, written = [], 0
def fill(file):
    global written
    try:
        while True: written += file.write(bytes(1 << 16)); file.flush()
    except OSError as error: expect(errno.ENOSPC, error.errno)
# Used all the same, by way of a mount that went lazily.
for _ in range(3):
    if mount('x', 'a', 'tmpfs', 0, 'size=100%') != 'ok': break
    expect('ok', mount('a', 'b', None, BIND)); held.append(open('a/f', 'wb'))
    expect('ok', umount('a', DETACH)); mount(None, 'b', None, REMOUNT, 'size=100%'); expect('ok', umount('b'))
    fill(held[-1])
# One that is full does not become smaller.
for number in range(20):
    name = 's%d' % number; dirs(name)
    if mount('x', name, 'tmpfs', 0, 'size=100%') != 'ok': break
    held.append(open(name + '/f', 'wb')); fill(held[-1])
    for other in range(number + 1): mount(None, 's%d' % other, None, REMOUNT, 'size=64k')
expect(True, written <= 64 << 20, written > 32 << 20)
"#;
    python(&Project::new(), &["--disk", "64M"], script).exits(0);
}

#[test]
fn a_killed_supervisor_leaves_no_mount_and_no_process() {
    let project = Project::new();
    let root = project.path().to_str().unwrap().to_owned();
    let script = [
        PRELUDE,
        "expect('ok', mount('x', sys.argv[1], 'tmpfs'))\nprint('up', flush=True)\nimport time\ntime.sleep(60)",
    ]
    .concat();
    let sandbox = Sandbox::new(&project).options(["--allow", "mount", "--write", &root]);
    let mut command = sandbox.command(["python3", "-c", &script, &root]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut line).unwrap();
    assert_eq!(line, "up\n");
    let children = |pid: u32| -> Vec<u32> {
        let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        list.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    };
    let supervisor = children(child.id())[0];
    let below = children(supervisor);
    assert_eq!(below.len(), 2, "init and the process that mounts");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(supervisor.cast_signed()), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    let _ = child.wait();
    assert!(below.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()), "{below:?}");
    assert!(!host_mounts().contains(&root));
}

/// Its rights end where the sandbox's do, and without it a mount fails.
#[test]
fn who_mounts_has_few_rights_and_may_die() {
    let project = Project::new();
    let script = [
        PRELUDE,
        "dirs('/tmp/a')\nprint(mount('x', '/tmp/a', 'tmpfs'), flush=True)\nsys.stdin.readline()\n\
                   print(mount('x', '/tmp/a', 'tmpfs'), umount('/tmp/a'), flush=True)",
    ]
    .concat();
    let sandbox = Sandbox::new(&project).options(["--allow", "mount"]);
    let mut command = sandbox.command(["python3", "-c", &script]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
    assert_eq!(line, "ok\n");
    let children = |pid: u32| -> Vec<u32> {
        let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        list.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    };
    let below = children(children(child.id())[0]);
    let status = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let is_mounter = |pid: &&u32| status(**pid).contains("CapEff:\t0000000000200000");
    let mounter = *below.iter().find(is_mounter).expect("a process with CAP_SYS_ADMIN in force and nothing else");
    let status = status(mounter);
    for line in ["CapPrm:\t0000000000200002", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line}: {status}");
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(mounter.cast_signed()), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(50));
    drop(child.stdin.take());
    line.clear();
    std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
    assert_eq!(line, "EIO EIO\n");
    assert!(child.wait().unwrap().success());
}

#[test]
fn without_the_option_nothing_is_mounted_and_its_name_is_said() {
    let project = Project::new();
    let script =
        [PRELUDE, "print(mount('x', '/tmp', 'tmpfs'), mount('/usr', '/tmp', None, BIND), umount('/usr'))"].concat();
    let run = Sandbox::new(&project).run(["python3", "-c", &script]).exits(0);
    assert_eq!(run.out, "EPERM EPERM EPERM\n");
    run.says("or allow with --allow mount").says("umount2 /usr");
    // Ring 1 alone: whoever lets every call run still mounts nothing, with the option or without.
    for options in [&[][..], &["--allow", "mount"]] {
        let run = Sandbox::new(&project).binary(&site().always_continue).options(options);
        let run = run.run(["python3", "-c", &script]).exits(0);
        assert_eq!(run.out, "EPERM EPERM EPERM\n", "{options:?}");
    }
}

/// Programs that look at mounts agree; mount(8) itself asks for uid 0 before it asks the kernel.
#[test]
fn programs_see_the_mounts() {
    let project = Project::new();
    let script = r#"
import subprocess
dirs('/tmp/seen'); expect('ok', mount('mine', '/tmp/seen', 'tmpfs', 0, 'size=1m'))
def run(*command): return subprocess.run(command, capture_output=True, text=True).stdout
expect(True, '/tmp/seen' in run('findmnt', '-rn'), 'mine on /tmp/seen type tmpfs' in run('mount'), '/tmp/seen' in run('df', '/tmp/seen'),
       'mine /tmp/seen tmpfs rw,nosuid,nodev' in open('/proc/mounts').read(), os.path.ismount('/tmp/seen'))
expect(open('/proc/mounts').read(), open('/etc/mtab').read())
expect(0, subprocess.run(['mountpoint', '-q', '/tmp/seen']).returncode)
"#;
    if !has("findmnt") {
        skip!("no findmnt");
    }
    python(&project, &[], script).exits(0);
}
