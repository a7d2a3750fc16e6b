/*
 * The floor for bench.sh: the same namespaces, mounts and links as the stages, with the fewest system calls.
 * It parses no options, forwards no signals, and cleans up nothing after an error.
 *
 * Usage: floor LEVEL ROOTFS COMMAND [ARG]...
 *
 *   0  fork and exec               3  and PID and mount namespaces, a new /proc
 *   1  a UTS namespace             4  and a root of its own: /proc, /tmp, pivot_root
 *   2  and a user namespace        5  and a network namespace, bridge and veth pair on the host
 *                                  6  the same, with the host's end in another network namespace
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The sender of a request may choose the index of a link. These are free in a new network namespace. */
enum { LO = 1, VETH1 = 2, BR0 = 2, VETH0 = 3 };

static long check(long result, const char *call)
{
    if (result < 0) {
        perror(call);
        _exit(1);
    }
    return result;
}

static void write_proc(const char *process, const char *file, const char *text)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%s/%s", process, file);
    int fd = check(open(path, O_WRONLY | O_CLOEXEC), path);
    check(write(fd, text, strlen(text)), path);
    close(fd);
}

static void map(const char *process, unsigned inside_uid, unsigned inside_gid, unsigned uid, unsigned gid)
{
    char line[64];
    write_proc(process, "setgroups", "deny");
    snprintf(line, sizeof line, "%u %u 1", inside_uid, uid);
    write_proc(process, "uid_map", line);
    snprintf(line, sizeof line, "%u %u 1", inside_gid, gid);
    write_proc(process, "gid_map", line);
}

/* Netlink requests, one after the other in one batch. The kernel acknowledges only the last one. */
static _Alignas(8) char batch[4096];
static size_t used;
static struct nlmsghdr *request;

static void begin(int type, int flags, const void *body, size_t length)
{
    used += request ? NLMSG_ALIGN(request->nlmsg_len) : 0;
    request = (void *)(batch + used);
    *request = (struct nlmsghdr){NLMSG_LENGTH(length), type, NLM_F_REQUEST | flags, 0, 0};
    memcpy(NLMSG_DATA(request), body, length);
}

static struct rtattr *attribute(int type, const void *data, size_t length)
{
    struct rtattr *at = (void *)((char *)request + NLMSG_ALIGN(request->nlmsg_len));
    *at = (struct rtattr){RTA_LENGTH(length), type};
    memcpy(RTA_DATA(at), data, length);
    request->nlmsg_len = NLMSG_ALIGN(request->nlmsg_len) + RTA_ALIGN(at->rta_len);
    return at;
}

static void end(struct rtattr *at) { at->rta_len = (char *)request + request->nlmsg_len - (char *)at; }

static void send_batch(void)
{
    struct { struct nlmsghdr header; struct nlmsgerr error; char copy[4096]; } answer;
    request->nlmsg_flags |= NLM_F_ACK;
    static int fd;
    if (!fd)
        fd = check(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), "socket");
    check(send(fd, batch, used + request->nlmsg_len, 0), "send");
    check(recv(fd, &answer, sizeof answer, 0), "recv");
    errno = -answer.error.error;
    check(answer.error.error, "netlink");
    memset(batch, 0, sizeof batch);
    used = 0, request = NULL;
}

static void link_up(int index, int flags)
{
    begin(RTM_NEWLINK, flags, &(struct ifinfomsg){.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP}, sizeof(struct ifinfomsg));
}

static void add_address(int index, const char *text)
{
    struct in_addr ip = {inet_addr(text)};
    begin(RTM_NEWADDR, NLM_F_CREATE, &(struct ifaddrmsg){AF_INET, 24, 0, 0, index}, sizeof(struct ifaddrmsg));
    attribute(IFA_LOCAL, &ip, sizeof ip);
    attribute(IFA_ADDRESS, &ip, sizeof ip);
}

static void add_bridge_and_veth(int pid, int group)
{
    link_up(BR0, NLM_F_CREATE | NLM_F_EXCL);
    attribute(IFLA_IFNAME, "br0", 4);
    attribute(IFLA_GROUP, &group, sizeof group);
    struct rtattr *info = attribute(IFLA_LINKINFO, "", 0);
    attribute(IFLA_INFO_KIND, "bridge", 6);
    end(info);
    add_address(BR0, "172.20.1.2");
    link_up(VETH0, NLM_F_CREATE | NLM_F_EXCL);
    attribute(IFLA_IFNAME, "veth0", 6);
    attribute(IFLA_MASTER, &(int){BR0}, sizeof(int));
    attribute(IFLA_GROUP, &group, sizeof group);
    info = attribute(IFLA_LINKINFO, "", 0);
    attribute(IFLA_INFO_KIND, "veth", 4);
    struct rtattr *data = attribute(IFLA_INFO_DATA, "", 0);
    struct rtattr *peer = attribute(VETH_INFO_PEER, &(struct ifinfomsg){.ifi_index = VETH1}, sizeof(struct ifinfomsg));
    attribute(IFLA_IFNAME, "veth1", 6);
    attribute(IFLA_NET_NS_PID, &pid, sizeof pid);
    end(peer), end(data), end(info);
    add_address(VETH0, "172.20.1.3");
    send_batch();
}

static void container(int level, const char *root, char **command, unsigned uid, unsigned gid, int ready)
{
    char byte;
    if (level >= 2 && level < 5)
        map("self", 0, 0, uid, gid);
    if (level >= 5 && read(ready, &byte, 1) != 1)
        _exit(1);
    if (level >= 1)
        check(sethostname("leopard", 7), "sethostname");
    if (level >= 3)
        check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "mount private");
    if (level >= 4) {
        check(mount(root, root, NULL, MS_BIND | MS_REC, NULL), "mount bind");
        check(chdir(root), "chdir");
    }
    if (level >= 3)
        check(mount("proc", level == 3 ? "/proc" : "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "mount proc");
    if (level >= 4) {
        check(mount("tmpfs", "tmp", "tmpfs", MS_NOSUID | MS_NODEV, NULL), "mount tmpfs");
        /* pivot_root(2), notes: the old root is mounted over the new one, and removed from there. */
        check(syscall(SYS_pivot_root, ".", "."), "pivot_root");
        check(umount2(".", MNT_DETACH), "umount2");
        check(chdir("/"), "chdir");
    }
    if (level >= 5) {
        link_up(LO, 0);
        add_address(VETH1, "172.20.1.4");
        link_up(VETH1, 0);
        send_batch();
    }
    check(execv(command[0], command), command[0]);
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return fputs("usage: floor LEVEL ROOTFS COMMAND [ARG]...\n", stderr), 2;
    int level = atoi(argv[1]), status, ready[2] = {-1, -1};
    unsigned uid = geteuid(), gid = getegid();
    if (level == 6) {
        check(unshare(CLONE_NEWUSER | CLONE_NEWNET), "unshare");
        map("self", uid, gid, uid, gid);
    }
    unsigned long flags = SIGCHLD | (level >= 1 ? CLONE_NEWUTS : 0) | (level >= 2 ? CLONE_NEWUSER : 0) |
        (level >= 3 ? CLONE_NEWPID | CLONE_NEWNS : 0) | (level >= 5 ? CLONE_NEWNET : 0);
    if (level >= 5)
        check(pipe2(ready, O_CLOEXEC), "pipe2");
    pid_t pid = check(syscall(SYS_clone, flags, 0, 0, 0, 0), "clone");
    if (pid == 0)
        container(level, argv[2], argv + 3, uid, gid, ready[0]);

    /* Both links are in a group of their own, so that one request deletes them after one RCU grace period. */
    int group = pid | 0x40000000;
    if (level >= 5) {
        char process[16];
        snprintf(process, sizeof process, "%d", pid);
        map(process, 0, 0, uid, gid);
        add_bridge_and_veth(pid, group);
        check(write(ready[1], "", 1), "write");
    }
    check(waitpid(pid, &status, 0), "waitpid");
    if (level == 5) {
        begin(RTM_DELLINK, 0, &(struct ifinfomsg){0}, sizeof(struct ifinfomsg));
        attribute(IFLA_GROUP, &group, sizeof group);
        send_batch();
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
