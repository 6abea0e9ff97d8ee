//! Real programs behave inside as they do outside, apart from what the policy forbids.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use sentry_tests::{Project, Sandbox, as_user, has, not_traced, outcome, skip};

macro_rules! needs {
    ($($program:literal),+) => {
        $(if !has($program) { skip!("{} is not installed", $program); })+
    };
}

#[test]
fn python() {
    needs!("python3");
    let script = "import ssl,json,subprocess,threading,multiprocessing as m\n\
        t=threading.Thread(target=lambda:None);t.start();t.join()\n\
        print(subprocess.check_output(['echo','hi']), m.Pool(2).map(abs,[-1,2]))";
    for profile in ["default", "judge"] {
        let script = if profile == "judge" { "print('hi', sum(range(10)))" } else { script };
        let run = Sandbox::new(&Project::new()).options(["--profile", profile]).run(["python3", "-c", script]).exits(0);
        assert!(run.out.contains("hi"), "{run:?}");
    }
}

#[test]
fn compilers_and_debuggers() {
    needs!("gcc", "gdb", "strace");
    let project = Project::new();
    project.write("hello.c", "#include <stdio.h>\nint main(void){ puts(\"hello\"); return 0; }\n");
    let run = Sandbox::new(&project).sh("gcc -g hello.c -o hello && ./hello").exits(0);
    assert_eq!(run.out, "hello\n");
    not_traced!("debuggers");
    let run = Sandbox::new(&project)
        .sh("gcc -g hello.c -o hello && gdb -nx -batch -ex 'break main' -ex run -ex bt -ex continue ./hello 2>&1");
    assert!(run.out.contains("Breakpoint 1") && run.out.contains("hello"), "{run:?}");
    let run = Sandbox::new(&project).sh("strace -f true 2>&1").exits(0);
    assert!(run.out.contains("exit_group(0)"), "{run:?}");
}

#[test]
fn make_builds_a_project() {
    needs!("make", "gcc");
    let project = Project::new();
    let mut rules = String::from("all: prog\nOBJS =");
    for n in 0..8 {
        project.write(&format!("f{n}.c"), format!("int f{n}(void) {{ return {n}; }}\n"));
        rules.push_str(&format!(" f{n}.o"));
    }
    let sum: Vec<String> = (0..8).map(|n| format!("f{n}()")).collect();
    let declared: String = (0..8).map(|n| format!("int f{n}(void);")).collect();
    project.write("main.c", format!("{declared}\nint main(void) {{ return {}; }}\n", sum.join("+")));
    rules.push_str("\nprog: main.o $(OBJS)\n\t$(CC) -o $@ $^\n");
    project.write("Makefile", rules);
    let run = Sandbox::new(&project).sh("make -s -j2 && ./prog");
    assert_eq!(run.code, 28, "{run:?}");
    assert!(!project.has("prog"));
}

#[test]
fn git() {
    needs!("git");
    let project = Project::new();
    project.write("file", "content\n");
    let script = "git init -q . && git add . && git -c user.name=a -c user.email=a@b commit -qm first && \
                  echo x >> file && git status --short && git log --format=%s";
    let run = Sandbox::new(&project).sh(script).exits(0);
    assert_eq!(run.out, " M file\nfirst\n");
    assert!(!project.has(".git"));
}

#[test]
fn node() {
    needs!("node");
    let run = Sandbox::new(&Project::new()).run(["node", "-e", "setTimeout(() => console.log(1 + 1), 10)"]).exits(0);
    assert_eq!(run.out, "2\n");
    let limited =
        Sandbox::new(&Project::new()).options(["--memory", "512M"]).run(["node", "-e", "console.log(3)"]).exits(0);
    assert_eq!(limited.out, "3\n");
}

#[test]
fn redis_over_loopback() {
    needs!("redis-server", "redis-benchmark");
    let script = "redis-server --save '' --daemonize yes --logfile /tmp/log >/dev/null; \
                  for n in 1 2 3 4 5 6 7 8 9; do redis-cli ping >/dev/null 2>&1 && break; sleep 0.2; done; \
                  redis-benchmark -q -n 1000 -t set,get";
    for options in [&[][..], &["--write", "."]] {
        let run = Sandbox::new(&Project::new()).options(options).sh(script).exits(0);
        assert!(run.out.contains("GET: ") && run.out.contains("requests per second"), "{run:?}");
    }
}

#[test]
fn archives_and_searches() {
    needs!("tar", "find");
    let project = Project::new();
    for n in 0..50 {
        project.write(&format!("d/f{n}"), format!("{n}"));
    }
    let script = "tar cf a.tar d && mkdir out && tar xf a.tar -C out && diff -r d out/d && find out -type f | wc -l";
    let run = Sandbox::new(&project).sh(script).exits(0);
    assert_eq!(run.out.trim(), "50");
}

#[test]
fn shells_and_jobs() {
    let run = Sandbox::new(&Project::new())
        .run(["bash", "-c", "for n in $(seq 100); do (exit 0); done; echo $((6*7)) | cat; ulimit -n >/dev/null"])
        .exits(0);
    assert_eq!(run.out, "42\n");
}

/// Runs a script natively in one project and with every path interposed in another: output and exit code must be equal.
#[track_caller]
fn alike(files: &[(&str, &str)], script: &str) {
    let [native, interposed] = [false, true].map(|interpose| {
        let project = Project::new();
        for (name, content) in files {
            project.write(name, content);
        }
        let run = if interpose {
            Sandbox::new(&project).options(["--quiet", "--interpose", "full", "--write", "."]).sh(script)
        } else {
            let mut command = as_user("sh");
            command.args(["-c", script]).current_dir(project.path());
            outcome(command)
        };
        let place = project.path().to_str().unwrap().to_owned();
        (run.code, run.out.replace(&place, "PROJECT"), run.err.replace(&place, "PROJECT"))
    });
    assert_eq!(interposed, native);
    assert_eq!(native.0, 0, "{native:?}");
}

#[test]
fn everyday_git_is_alike_when_interposed() {
    needs!("git");
    alike(
        &[("a", "one\n"), ("d/b", "two\n")],
        "export GIT_AUTHOR_DATE='2001-01-01 00:00 +0000' GIT_COMMITTER_DATE='2001-01-01 00:00 +0000'; \
         git init -q -b main . && git config user.name a && git config user.email a@b && git add . && git commit -qm first && \
         git checkout -q -b side && echo more >> a && git commit -qam second && git mv a c && git commit -qm third && \
         git checkout -q main && git merge -q side && git stash list && git log --format=%H && git gc -q && git fsck && \
         git clone -q . clone && git -C clone log --format=%s && git worktree add -q tree side && git -C tree status --short && \
         git diff HEAD~1 --stat && git grep -n more && git clean -fdxn",
    );
}

#[test]
fn everyday_tools_are_alike_when_interposed() {
    needs!("sqlite3", "tar", "rsync", "find");
    alike(
        &[("d/a", "one\n"), ("d/e/b", "two\n"), ("x.sh", "#!/bin/sh\necho ran\n")],
        "chmod 755 x.sh && ./x.sh; ln -s e d/l; ln d/a d/h; mkfifo d/p; chmod 640 d/a; touch -d 2001-02-03 d/e/b; \
         sqlite3 t.db 'pragma journal_mode=wal; create table t(a); insert into t values(1),(2); select sum(a) from t; vacuum'; \
         tar cf a.tar d && mkdir out && tar xpf a.tar -C out && tar tvf a.tar | awk '{print $1, $3, $6, $7, $8}'; \
         rsync -aH d/ r/ && rsync -aHin --delete d/ r/; find . -printf '%M %n %l %P\\n' | grep -v db- | sort; \
         cp -a d copy && diff -r --no-dereference -x p d copy && mv copy copy2 && rm -r copy2; (echo x > d/p &); cat d/p; \
         cat /dev/stdin < d/a; ls -l /proc/self/fd/0 < d/a | sed 's/.*-> //'; exec 7< d/a; cat /dev/fd/7; echo err > /dev/stderr; \
         bash -c 'cat <(echo substituted); diff <(echo 1) <(echo 1) && echo same'; readlink -f d/l; realpath d/l/..; \
         cat /proc/self/cwd/d/e/b; test -w d/a && test ! -x d/a && echo judged; df . > /dev/null; truncate -s 2 d/h; cat d/a; true",
    );
}

#[test]
fn builds_are_alike_when_interposed() {
    needs!("gcc", "make", "python3");
    alike(
        &[
            ("main.c", "#include <stdio.h>\n#include \"n.h\"\nint main(void) { printf(\"%d\\n\", N); return 0; }\n"),
            ("n.h", "#define N 42\n"),
            ("Makefile", "prog: main.o\n\t$(CC) -o $@ $^\nmain.o: main.c n.h\n"),
            ("p/__init__.py", "N = 7\n"),
        ],
        "make && ./prog && touch -d 2001-01-01 main.c && make -q && ar rcs l.a main.o && nm l.a | grep -c main; \
         python3 -c 'import p, json, tempfile, shutil, os; print(p.N, sorted(os.listdir(\".\"))); \
         d = tempfile.mkdtemp(dir=\".\"); shutil.copytree(\"p\", d + \"/q\"); shutil.rmtree(d); print(os.path.exists(d))'",
    );
}

#[test]
fn packages_without_a_network_are_alike_when_interposed() {
    needs!("node", "npm");
    alike(
        &[
            ("package.json", r#"{"name":"a","version":"1.0.0","dependencies":{"b":"file:b"}}"#),
            (
                "package-lock.json",
                r#"{"name":"a","version":"1.0.0","lockfileVersion":3,"requires":true,"packages":{"":{"name":"a","version":"1.0.0","dependencies":{"b":"file:b"}},"b":{"version":"1.0.0"},"node_modules/b":{"resolved":"b","link":true}}}"#,
            ),
            ("b/package.json", r#"{"name":"b","version":"1.0.0","main":"m.js"}"#),
            ("b/m.js", "module.exports = 5;\n"),
        ],
        "npm ci --offline --no-audit --no-fund --cache ./cache --loglevel=error --no-update-notifier >/dev/null && node -e 'console.log(require(\"b\"))' && \
         ls -l node_modules | sed 's/.* b/b/' | tail -1",
    );
}
