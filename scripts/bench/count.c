/*
 * Counts the instructions that a program and its children take, and the system calls that they make, up to
 * the execve(2) of its command, whose own are not counted, nor the kernel's.
 *
 * Usage: count PROGRAM [ARG]...        prints "INSTRUCTIONS SYSTEM_CALLS" on the descriptor 3
 *        COUNT_TRACE=FILE              (environment) also each address that was executed, for profiles
 *
 * Times vary with the machine and its load, such counts do not: each process is stepped instruction by
 * instruction (PTRACE_SINGLESTEP), one at a time, the oldest first, until it waits for another. So the order
 * of things is the same each time.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 16 };
/* RUNS: stepped, and not yet back. WAITS: for another process. LEFT: it has become the command. */
enum state { STOPPED, RUNS, WAITS, HELD, LEFT };
static struct tracee {
    pid_t pid;
    enum state state;
    int signal;
} tracees[MOST];
static int many;
static uint64_t instructions, calls;
static FILE *trace;

static void die(const char *what)
{
    fprintf(stderr, "count: %s: %s\n", what, strerror(errno));
    exit(1);
}

static struct tracee *find(pid_t pid)
{
    for (int i = 0; i < many; i++)
        if (tracees[i].pid == pid)
            return &tracees[i];
    if (many == MOST) {
        errno = 0;
        die("too many processes");
    }
    tracees[many] = (struct tracee){.pid = pid, .state = STOPPED};
    return &tracees[many++];
}

/* Whether the next instruction is a system call, which is looked up once for each address: without the
 * randomizing of addresses, they are the same in all processes of a program. */
static int at_system_call(pid_t pid)
{
    static uint64_t seen[1 << 16];
    uint64_t at;
#if defined(__x86_64__)
    at = ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, regs.rip), 0);
    const uint64_t mask = 0xffff, system_call = 0x050f;
#elif defined(__aarch64__)
    struct user_regs_struct registers;
    if (ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &(struct iovec){&registers, sizeof registers}))
        return 0;
    at = registers.pc;
    const uint64_t mask = 0xffffffff, system_call = 0xd4000001; /* svc #0 */
#else
#error "which instruction makes a system call here?"
#endif
    if (trace)
        fprintf(trace, "%d %llx\n", pid, (unsigned long long)at);
    uint64_t *entry = &seen[(at ^ at >> 16) & 0xffff];
    if (*entry >> 1 != at) {
        uint64_t word = ptrace(PTRACE_PEEKTEXT, pid, at, 0);
        *entry = at << 1 | ((word & mask) == system_call);
    }
#if defined(__x86_64__)
    /* Stepped, everything takes long: nobody gives up waiting in the meantime. */
    if (*entry & 1 && ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, regs.rax), 0) == SYS_poll &&
        ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, regs.rdx), 0))
        ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, regs.rdx), -1);
#endif
    return *entry & 1;
}

/* 'S': it sleeps until another process does something. */
static char process_state(pid_t pid)
{
    char path[32], text[512] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return 'X';
    char *got = fgets(text, sizeof text, file);
    fclose(file);
    char *end = got ? strrchr(text, ')') : NULL;
    return end ? end[2] : 'X';
}

static void forget(struct tracee *tracee)
{
    *tracee = tracees[--many];
    /* The oldest stay first. */
    for (struct tracee *at = tracee; at + 1 < tracees + many; at++) {
        struct tracee swap = at[0];
        if (swap.pid < at[1].pid)
            break;
        at[0] = at[1];
        at[1] = swap;
    }
}

/* What a process reports. */
static void hear(pid_t pid, int status, pid_t first, int *result)
{
    struct tracee *tracee = find(pid);
    if (WIFEXITED(status) || WIFSIGNALED(status)) {
        if (pid == first)
            *result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        forget(tracee);
        return;
    }
    int event = status >> 16, signal = WSTOPSIG(status);
    tracee->signal = 0;
    tracee->state = STOPPED;
    if (event == PTRACE_EVENT_EXEC && pid != first)
        tracee->state = HELD;
    else if (event == 0 && signal != SIGTRAP && signal != SIGSTOP)
        tracee->signal = signal;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fputs("usage: count PROGRAM [ARG]...\n", stderr);
        return 2;
    }
    const char *trace_file = getenv("COUNT_TRACE");
    if (trace_file && !(trace = fopen(trace_file, "w")))
        die(trace_file);
    /* On one processor a step takes a fifth of the time: nobody has to be woken on the other. */
    cpu_set_t one;
    int cpu = sched_getcpu();
    CPU_ZERO(&one);
    CPU_SET(cpu < 0 ? 0 : cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
    pid_t first = fork();
    if (first < 0)
        die("fork");
    if (first == 0) {
        /* Addresses that change from run to run change what is copied in which way. */
        personality(ADDR_NO_RANDOMIZE);
        close(3);
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        unsetenv("COUNT_TRACE");
        execv(argv[1], argv + 1);
        die(argv[1]);
    }
    int status, result = -1;
    if (waitpid(first, &status, 0) < 0 || !WIFSTOPPED(status))
        die("execve");
    long options = PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC;
    if (ptrace(PTRACE_SETOPTIONS, first, 0, options))
        die("PTRACE_SETOPTIONS");
    find(first);

    while (many > 0) {
        pid_t pid;
        while ((pid = waitpid(-1, &status, WNOHANG | __WALL)) > 0)
            hear(pid, status, first, &result);
        /* The oldest that can go on; if all wait, the command may begin. */
        struct tracee *next = NULL;
        for (int i = 0; i < many && !next; i++)
            if (tracees[i].state == STOPPED)
                next = &tracees[i];
        if (!next) {
            int busy = 0;
            for (int i = 0; i < many; i++)
                busy |= tracees[i].state == RUNS || (tracees[i].state == WAITS && process_state(tracees[i].pid) != 'S');
            for (int i = 0; i < many && !busy; i++)
                if (tracees[i].state == HELD) {
                    ptrace(PTRACE_DETACH, tracees[i].pid, 0, 0);
                    forget(&tracees[i]);
                    busy = 1;
                }
            if (many > 0)
                nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
            continue;
        }
        /* Step it until it waits. */
        pid_t current = next->pid;
        for (;;) {
            instructions++;
            int call = at_system_call(current);
            calls += call;
            next->state = RUNS;
            if (ptrace(PTRACE_SINGLESTEP, current, 0, next->signal)) {
                if (errno != ESRCH)
                    die("PTRACE_SINGLESTEP");
            }
            int sleeps = 0;
            while ((pid = waitpid(current, &status, (call ? WNOHANG : 0) | __WALL)) == 0) {
                /* Twice in a row, so that it is not one of the short sleeps on the way. */
                sleeps = process_state(current) == 'S' ? sleeps + 1 : 0;
                if (sleeps == 20)
                    break;
                if (sleeps)
                    nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
            }
            if (pid <= 0) {
                next->state = WAITS;
                break;
            }
            hear(pid, status, first, &result);
            if (!many || next->pid != current || next->state != STOPPED)
                break;
        }
    }
    dprintf(3, "%llu %llu\n", (unsigned long long)instructions, (unsigned long long)calls);
    return result;
}
