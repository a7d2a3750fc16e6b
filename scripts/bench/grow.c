/*
 * Starts many containers, and says when each of them was up, and when all were gone.
 *
 * Usage: grow COUNT one|all PROGRAM [ARG]...
 *
 * PROGRAM's command has to write a line to its standard output once it is up, and to end when its standard
 * input does. With "one", each is up before the next is started; with "all", all are started at once.
 * Prints "began SECONDS" of the monotonic clock; "up MICROSECONDS" or "silent MICROSECONDS" for each of them, by
 * the first letter of its line; "started MICROSECONDS" for the last start. Then it waits for a line on standard
 * input, ends them all, and prints "gone MICROSECONDS".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
static const int PATIENCE = 60000; /* ms until one more must be up */

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000LL + time.tv_nsec / 1000;
}

static void die(const char *what)
{
    fprintf(stderr, "grow: %s: %s\n", what, strerror(errno));
    exit(1);
}

static long long begin;
static int up[2], up_count;

/* Notes the lines that have come; waits for one if `wait`. */
static void listen_up(int wait)
{
    char lines[4096];
    struct pollfd poller = {.fd = up[0], .events = POLLIN};
    while (poll(&poller, 1, wait ? PATIENCE : 0) > 0) {
        ssize_t got = read(up[0], lines, sizeof lines);
        long long at = now() - begin;
        /* Each line is short, and written in one call, so none comes in parts. */
        for (ssize_t i = 0; i < got; i++)
            if (i == 0 || lines[i - 1] == '\n') {
                printf("%s %lld\n", lines[i] == 's' ? "silent" : "up", at);
                up_count++;
            }
        if (got > 0)
            return;
    }
    if (wait) {
        errno = ETIMEDOUT;
        die("no further container is up");
    }
}

int main(int argc, char **argv)
{
    int count = argc > 3 ? atoi(argv[1]) : 0, one = argc > 3 && !strcmp(argv[2], "one"), end[2];
    if (count < 1) {
        fputs("usage: grow COUNT one|all PROGRAM [ARG]...\n", stderr);
        return 2;
    }
    if (pipe2(up, O_CLOEXEC) || pipe2(end, O_CLOEXEC))
        die("pipe2");
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, end[0], 0);
    posix_spawn_file_actions_adddup2(&actions, up[1], 1);
    begin = now();
    printf("began %lld.%06lld\n", begin / 1000000, begin % 1000000);
    for (int i = 0; i < count; i++) {
        pid_t pid;
        errno = posix_spawn(&pid, argv[3], &actions, NULL, argv + 3, environ);
        if (errno)
            die(argv[3]);
        while (one && up_count <= i)
            listen_up(1);
    }
    long long started = now() - begin;
    while (up_count < count)
        listen_up(1);
    printf("started %lld\n", started);
    fflush(stdout);
    getchar();

    begin = now();
    close(end[0]);
    close(end[1]);
    int status, failed = 0;
    while (wait(&status) > 0)
        failed += status != 0;
    printf("gone %lld\n", now() - begin);
    if (failed)
        fprintf(stderr, "grow: %d ended with an error\n", failed);
    return failed != 0;
}
