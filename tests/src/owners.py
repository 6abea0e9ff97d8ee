# Random changes of owners and permissions, by root and by users that it becomes, and what every file is said to be after each:
# the same whether root is real or pretended. Usage: owners.py STEPS SEED, in an empty directory.
import errno, os, random, socket, sys

def told(name, call, *arguments, **keywords):
    try:
        result = call(*arguments, **keywords)
        print(name, "done" if result is None else result)
    except OSError as error:
        print(name, errno.errorcode[error.errno])
    sys.stdout.flush()

def of(stat):
    return oct(stat.st_mode), stat.st_uid, stat.st_gid, stat.st_rdev

def odd_descriptors():
    link = os.open("link", os.O_PATH | os.O_NOFOLLOW)
    told("a link", lambda: of(os.fstat(link)))
    told("its owner", os.fchown, link, 1, 1)
    pipe = os.pipe()[0]
    told("a pipe", lambda: of(os.fstat(pipe)))
    told("its mode", os.fchmod, pipe, 0o600)
    told("a socket's owner", os.fchown, socket.socket(socket.AF_UNIX).fileno(), 0, 0)
    gone = os.open("gone", os.O_CREAT | os.O_RDWR, 0o640)
    os.unlink("gone")
    for way in gone, f"/proc/self/fd/{gone}":
        told("owner of what is gone", os.chown, way, 7, 8)
        told("what is gone", lambda: of(os.fstat(gone)))
    path = os.open("file", os.O_PATH)
    told("owner by a path", os.fchown, path, 1, 1)
    told("mode by a path", os.fchmod, path, 0o777)
    told("attribute by a path", os.getxattr, path, "user.x")
    told("owner by its entry", os.chown, f"/proc/self/fd/{path}", 3, 3)

def step(what, name, user, group, mode):
    if what == "chown":
        told(f"chown {name} {user} {group}", os.chown, name, user, group)
    elif what == "lchown":
        told(f"lchown {name} {user} {group}", os.lchown, name, user, group)
    elif what == "chmod":
        told(f"chmod {name} {mode:o}", os.chmod, name, mode)
    elif what == "remove":
        told(f"remove {name}", os.unlink, name)
    elif what == "make":
        told(f"make {name} {mode:o}", lambda: os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)))
    elif what == "mkdir":
        told(f"mkdir {name} {mode:o}", os.mkdir, name, mode)
    elif what == "access":
        told(f"access {name}", lambda: [os.access(name, bits) for bits in (1, 2, 4, 6)])
        told(f"access {name}", lambda: [os.access(name, bits, effective_ids=True) for bits in (1, 2, 4, 6)])

steps, seed = int(sys.argv[1]), int(sys.argv[2])
random.seed(seed)
os.umask(0o22)
open("file", "w").write("x")
os.symlink("file", "link")
os.mkdir("dir")
odd_descriptors()
for mode in 0o20600, 0o60640, 0o100644, 0o10600, 0o140600, 0o40755, 0o120777, 0o644, 0o104755, 0o106711:
    told(f"mknod {mode:o}", os.mknod, f"node-{mode:o}", mode, os.makedev(7, 9))
# Users do not get into directories: whether they may is the kernel's decision, about the real user.
flat = ["file", "dir", "link", "node-20600", "node-644", "node-10600", "node-104755"]
names = flat + ["dir/one", "dir/two"]
for number in range(steps):
    by_user = random.randrange(3) == 0
    what = random.choice(["chown", "lchown", "chmod", "access"] if by_user else ["chown", "lchown", "chmod", "remove", "make", "mkdir", "rename"])
    name = random.choice(flat if by_user else names)
    user, group = (random.choice([0, 1, 33, 1000, 65534, -1]) for _ in range(2))
    mode = random.choice([0, 0o644, 0o4755, 0o2755, 0o2644, 0o6777, 0o1777, 0o700, 0o111, 0o2750])
    who, groups, other = random.choice([1, 33, 1000]), random.sample([33, 50, 1, 1000], 3), random.choice(names)
    if by_user:
        child = os.fork()
        if child == 0:
            os.setgroups(groups[1:])
            os.setgid(groups[0])
            os.setuid(who)
            step(what, name, user, group, mode)
            os._exit(0)
        os.waitpid(child, 0)
    elif what == "rename":
        told(f"rename {name} {other}", os.rename, name, other)
    else:
        step(what, name, user, group, mode)
    for each in names:
        told(each, lambda: of(os.lstat(each)))
