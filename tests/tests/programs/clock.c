// What programs do with clocks: each argument a question, answered with "ok" or what is wrong.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/timex.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FAIL(...) do { printf(__VA_ARGS__); printf(" (line %d)\n", __LINE__); fflush(stdout); _exit(1); } while (0)
#define DAY 86400L

static double seconds(clockid_t clock) {
    struct timespec time;
    if (clock_gettime(clock, &time)) FAIL("clock %d: %s", clock, strerror(errno));
    if (time.tv_nsec < 0 || time.tv_nsec > 999999999) FAIL("%ld nanoseconds", time.tv_nsec);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void set(double to) {
    struct timespec time = { (time_t)to, (long)((to - (time_t)to) * 1e9) };
    if (clock_settime(CLOCK_REALTIME, &time)) FAIL("clock_settime: %s", strerror(errno));
}

static void near(const char *what, double is, double should, double within) {
    if (is < should - within || is > should + within) FAIL("%s says %.6f, not %.6f", what, is, should);
}

// Every way to read the time tells the same.
static void agree(void) {
    struct timespec raw;
    struct timeval day, rawday;
    struct timezone zone;
    double now = seconds(CLOCK_REALTIME), lag = 0.5;
    near("CLOCK_REALTIME_COARSE", seconds(CLOCK_REALTIME_COARSE), now, lag);
    struct timex timex = { 0 };
    if (adjtimex(&timex) < 0) FAIL("adjtimex: %s", strerror(errno));
    near("adjtimex", timex.time.tv_sec, now, 1 + lag);
    near("CLOCK_TAI", seconds(CLOCK_TAI), now + timex.tai, lag);
    if (gettimeofday(&day, &zone)) FAIL("gettimeofday");
    near("gettimeofday", day.tv_sec + day.tv_usec / 1e6, now, lag);
    near("time", time(NULL), now, 1 + lag);
    if (syscall(SYS_clock_gettime, CLOCK_REALTIME, &raw)) FAIL("the system call");
    near("the system call", raw.tv_sec + raw.tv_nsec / 1e9, now, lag);
    if (syscall(SYS_clock_gettime, CLOCK_TAI, &raw)) FAIL("the system call");
    near("the system call for TAI", raw.tv_sec + raw.tv_nsec / 1e9, now + timex.tai, lag);
    if (syscall(SYS_gettimeofday, &rawday, NULL)) FAIL("gettimeofday");
    near("the system call gettimeofday", rawday.tv_sec + rawday.tv_usec / 1e6, now, lag);
#ifdef SYS_time
    near("the system call time", syscall(SYS_time, NULL), now, 1 + lag);
#endif
    if (clock_gettime(77, &raw) != -1 || errno != EINVAL) FAIL("clock 77 exists");
    struct timeval *volatile nowhere = NULL;
    if (gettimeofday(nowhere, &zone)) FAIL("gettimeofday for the zone");
}

static void set_and_agree(void) {
    double boot = seconds(CLOCK_BOOTTIME);
    for (int day = 0; day < 200; day++) {
        double to = 1e9 + day * DAY + 0.75;
        set(to);
        time_t after = time(NULL);
        if (after < (time_t)to) FAIL("time() is %ld right after %.2f was set", (long)after, to);
        near("CLOCK_REALTIME", seconds(CLOCK_REALTIME), to, 0.5);
        agree();
    }
    struct timeval day = { 1700000000, 500000 };
    if (settimeofday(&day, NULL)) FAIL("settimeofday: %s", strerror(errno));
    near("after settimeofday", seconds(CLOCK_REALTIME), 1700000000.5, 0.5);
    near("CLOCK_BOOTTIME", seconds(CLOCK_BOOTTIME), boot, 30);
    struct timespec bad = { 1, 1000000000 };
    if (clock_settime(CLOCK_REALTIME, &bad) != -1 || errno != EINVAL) FAIL("nonsense was set");
    if (clock_settime(CLOCK_MONOTONIC, &bad) != -1 || errno != EINVAL) FAIL("the monotonic clock was set");
}

static void steer(void) {
    set(1e9);
    struct timex timex = { .modes = ADJ_SETOFFSET, .time = { 5000, 250000 } };
    if (adjtimex(&timex) < 0) FAIL("ADJ_SETOFFSET: %s", strerror(errno));
    near("after ADJ_SETOFFSET", seconds(CLOCK_REALTIME), 1e9 + 5000.25, 0.5);
    struct timeval by = { -1000, 0 };
    if (adjtime(&by, NULL)) FAIL("adjtime: %s", strerror(errno));
    near("after adjtime", seconds(CLOCK_REALTIME), 1e9 + 4000.25, 0.5);
    memset(&timex, 0, sizeof timex);
    timex.modes = ADJ_FREQUENCY | ADJ_TICK;
    timex.freq = 12345;
    timex.tick = 10001;
    if (clock_adjtime(CLOCK_REALTIME, &timex) < 0) FAIL("clock_adjtime: %s", strerror(errno));
    memset(&timex, 0, sizeof timex);
    adjtimex(&timex);
    if (timex.freq != 12345 || timex.tick != 10001) FAIL("freq %ld, tick %ld", timex.freq, timex.tick);
    timex.modes = ADJ_TICK;
    timex.tick = 1;
    if (adjtimex(&timex) != -1 || errno != EINVAL) FAIL("a tick of 1 was accepted");
}

static volatile sig_atomic_t rang;
static void ring(int signal) { (void)signal; rang = 1; }

static void wait_for_times(void) {
    set(1e9);
    double began = seconds(CLOCK_MONOTONIC);
    struct itimerspec when = { { 0, 0 }, { 1000000000, 300000000 } }, copy = when;
    int fd = timerfd_create(CLOCK_REALTIME, 0);
    uint64_t count;
    if (timerfd_settime(fd, TFD_TIMER_ABSTIME, &when, NULL)) FAIL("timerfd_settime: %s", strerror(errno));
    if (read(fd, &count, sizeof count) != sizeof count || count != 1) FAIL("timerfd: %ld", (long)count);
    near("a timerfd", seconds(CLOCK_MONOTONIC) - began, 0.3, 0.25);
    if (timerfd_settime(0, TFD_TIMER_ABSTIME, &when, NULL) != -1) FAIL("descriptor 0 is a timer");

    timer_t timer;
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
    signal(SIGUSR1, ring);
    began = seconds(CLOCK_MONOTONIC);
    when.it_value.tv_nsec = 700000000;
    copy = when;
    if (timer_create(CLOCK_REALTIME, &event, &timer)) FAIL("timer_create: %s", strerror(errno));
    if (timer_settime(timer, TIMER_ABSTIME, &when, NULL)) FAIL("timer_settime: %s", strerror(errno));
    if (memcmp(&when, &copy, sizeof when)) FAIL("timer_settime changed its argument");
    while (!rang) usleep(1000);
    near("a timer", seconds(CLOCK_REALTIME), 1000000000.7, 0.25);

    struct timespec until = { 1000000001, 0 };
    int error = clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL);
    if (error) FAIL("clock_nanosleep: %s", strerror(error));
    near("clock_nanosleep", seconds(CLOCK_REALTIME), 1000000001.0, 0.25);
    if (seconds(CLOCK_REALTIME) < 1000000001.0) FAIL("clock_nanosleep woke early");
    // A signal ends it, and so does a setting to a later time.
    until.tv_sec += 1000;
    rang = 0;
    when.it_value.tv_sec = 1000000001;
    when.it_value.tv_nsec = 200000000;
    timer_settime(timer, TIMER_ABSTIME, &when, NULL);
    error = clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL);
    if (error != EINTR || !rang) FAIL("a signal: %s", strerror(error));
    if (!fork()) {
        usleep(200000);
        set(1000002000);
        _exit(0);
    }
    error = clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL);
    if (error && error != EINTR) FAIL("a sleep while the clock is set: %s", strerror(error));
    wait(NULL);
    near("a sleep while the clock is set", seconds(CLOCK_REALTIME), 1000002000, 1);
}

// One process sets the clock again and again; whoever reads it after that must see it.
#define STEP 100000.0
static volatile long *round_;
static double time_of(long round) { return 1e9 + round * STEP; }

static void read_once(const char *who) {
    long before = __atomic_load_n(round_, __ATOMIC_ACQUIRE);
    double now = seconds(CLOCK_REALTIME);
    long after = __atomic_load_n(round_, __ATOMIC_ACQUIRE);
    // The next one may be set already and not be told yet.
    if (now < time_of(before) || now > time_of(after + 1) + 1000)
        FAIL("%s: %.6f between rounds %ld and %ld", who, now, before, after);
}

static void *read_on(void *until) {
    while (__atomic_load_n(round_, __ATOMIC_ACQUIRE) < (long)until) read_once("a thread");
    return NULL;
}

static void race(long rounds, const char *self) {
    round_ = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    set(time_of(0));
    for (int reader = 0; reader < 4; reader++)
        if (!fork()) {
            pthread_t thread[2];
            if (reader < 2) {
                for (int i = 0; i < 2; i++) pthread_create(&thread[i], NULL, read_on, (void *)rounds);
                for (int i = 0; i < 2; i++) pthread_join(thread[i], NULL);
                _exit(0);
            }
            while (__atomic_load_n(round_, __ATOMIC_ACQUIRE) < rounds) {
                char now[32];
                snprintf(now, sizeof now, "%ld", __atomic_load_n(round_, __ATOMIC_ACQUIRE));
                pid_t child = fork();
                if (!child) {
                    read_once("a child");
                    if (reader == 3) execl(self, self, "later-than", now, NULL);
                    _exit(0);
                }
                int status;
                if (waitpid(child, &status, 0) != child || status) FAIL("a child ended with %x", status);
            }
            _exit(0);
        }
    for (long round = 1; round <= rounds; round++) {
        set(time_of(round));
        __atomic_store_n(round_, round, __ATOMIC_RELEASE);
        if (round % 16 == 0) usleep(500);
    }
    for (int reader = 0; reader < 4; reader++) {
        int status;
        wait(&status);
        if (status) FAIL("a reader ended with %x", status);
    }
}

static void *become_date(void *self) {
    execl(self, self, "year", NULL);
    return NULL;
}

// Programs that are killed at their exec, and execs that fail, leave nobody waiting.
static void storm(const char *self) {
    for (int i = 0; i < 300; i++) {
        pid_t child = fork();
        if (!child) {
            close(1);
            execl("/nonexistent", "nonexistent", NULL);
            execl("/etc", "etc", NULL);
            execl(self, self, "agree", NULL);
            _exit(1);
        }
        if (i % 3) {
            usleep((i * 37) % 900);
            kill(child, SIGKILL);
        }
        int status;
        if (waitpid(child, &status, 0) != child) FAIL("waitpid: %s", strerror(errno));
        if (WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status) != SIGKILL) FAIL("a child ended with %x", status);
    }
}

int main(int count, char **words) {
    const char *what = count > 1 ? words[1] : "agree";
    if (!strcmp(what, "agree")) agree();
    else if (!strcmp(what, "set")) set_and_agree();
    else if (!strcmp(what, "steer")) steer();
    else if (!strcmp(what, "wait")) wait_for_times();
    else if (!strcmp(what, "race")) race(atol(words[2]), words[0]);
    else if (!strcmp(what, "storm")) storm(words[0]);
    else if (!strcmp(what, "later-than")) {
        if (seconds(CLOCK_REALTIME) < time_of(atol(words[2]))) FAIL("a new program sees an old time");
        return 0;
    } else if (!strcmp(what, "year")) {
        time_t now = time(NULL);
        printf("%d\n", gmtime(&now)->tm_year + 1900);
        return 0;
    } else if (!strcmp(what, "thread")) {
        pthread_t thread;
        pthread_create(&thread, NULL, become_date, words[0]);
        pthread_join(thread, NULL);
        return 1;
    } else if (!strcmp(what, "boot")) {
        printf("%.0f %.0f\n", seconds(CLOCK_MONOTONIC), seconds(CLOCK_BOOTTIME));
        return 0;
    } else return 2;
    puts("ok");
    return 0;
}
