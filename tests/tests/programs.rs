//! Real programs behave inside as they do outside, apart from what the policy forbids.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use sentry_tests::{Project, Sandbox, has, skip};

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
