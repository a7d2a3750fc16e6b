/*
 * The floor that bench.sh measures the stages against: a program that makes the same namespaces, mounts
 * and links with the fewest system calls, and does nothing else. It parses no options, explains nothing,
 * checks no more than that a call has worked, passes no signals on, and leaves what a failure leaves.
 *
 * Usage: floor LEVEL ROOTFS COMMAND [ARG]...
 *
 *   0  fork and exec            3  and its own processes and mounts, a new /proc
 *   1  its own hostname         4  and its own root: /proc, /tmp, pivot_root
 *   2  and its own users        5  and its own network: bridge and veth on the host
 *                               6  the same, in a network namespace that plays the host
 *
 * bench.sh compiles it with cc -O2, and once more with -static, as the stages are.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* A link's index is the sender's to choose, so nobody has to ask for it. As the kernel would number the
 * first links of a new namespace, lo being 1. */
enum { BRIDGE = 2, VETH = 3, INSIDE = 2 };

static void die(const char *what)
{
    perror(what);
    _exit(1);
}

static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        die(path);
    close(fd);
}

/* The maps of a process, by itself or by its parent: root inside is the caller outside. */
static void map(const char *process, uid_t inside, uid_t uid, gid_t gid)
{
    char path[64], text[64];
    snprintf(path, sizeof path, "/proc/%s/setgroups", process);
    put(path, "deny");
    snprintf(path, sizeof path, "/proc/%s/uid_map", process);
    snprintf(text, sizeof text, "%u %u 1", inside ? uid : 0, uid);
    put(path, text);
    snprintf(path, sizeof path, "/proc/%s/gid_map", process);
    snprintf(text, sizeof text, "%u %u 1", inside ? gid : 0, gid);
    put(path, text);
}

/* Netlink: messages one behind the other in `batch`, sent in one call. Only the last is acknowledged;
 * an error is answered all the same. */
static _Alignas(8) char batch[4096];
static size_t used;
static struct nlmsghdr *message;

static void begin(int type, int flags, const void *body, size_t length)
{
    message = (struct nlmsghdr *)(batch + used);
    message->nlmsg_type = type;
    message->nlmsg_flags = NLM_F_REQUEST | flags;
    message->nlmsg_len = NLMSG_LENGTH(length);
    memcpy(NLMSG_DATA(message), body, length);
}

static struct rtattr *attribute(int type, const void *data, size_t length)
{
    struct rtattr *at = (void *)((char *)message + NLMSG_ALIGN(message->nlmsg_len));
    at->rta_type = type;
    at->rta_len = RTA_LENGTH(length);
    if (length)
        memcpy(RTA_DATA(at), data, length);
    message->nlmsg_len = NLMSG_ALIGN(message->nlmsg_len) + RTA_ALIGN(at->rta_len);
    return at;
}

static void end(struct rtattr *at)
{
    at->rta_len = (char *)message + message->nlmsg_len - (char *)at;
}

static void next(void)
{
    used += NLMSG_ALIGN(message->nlmsg_len);
}

static void talk(int netlink, const char *what)
{
    char answer[4096];
    message->nlmsg_flags |= NLM_F_ACK;
    next();
    if (send(netlink, batch, used, 0) < 0 || recv(netlink, answer, sizeof answer, 0) < 0)
        die(what);
    const struct nlmsgerr *error = NLMSG_DATA((struct nlmsghdr *)answer);
    if (error->error) {
        errno = -error->error;
        die(what);
    }
    memset(batch, 0, used);
    used = 0;
}

static void address(int index, const char *text)
{
    struct ifaddrmsg body = {.ifa_family = AF_INET, .ifa_prefixlen = 24, .ifa_index = index};
    struct in_addr ip;
    inet_pton(AF_INET, text, &ip);
    begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &body, sizeof body);
    attribute(IFA_LOCAL, &ip, sizeof ip);
    attribute(IFA_ADDRESS, &ip, sizeof ip);
    next();
}

static int open_netlink(void)
{
    int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (netlink < 0)
        die("socket");
    return netlink;
}

/* The host's side: br0 172.20.1.2 -- veth0 172.20.1.3, and veth1 in the network namespace of `pid`. */
static void connect_to(int netlink, pid_t pid, uint32_t group)
{
    struct ifinfomsg bridge = {.ifi_index = BRIDGE, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &bridge, sizeof bridge);
    attribute(IFLA_IFNAME, "br0", sizeof "br0");
    attribute(IFLA_GROUP, &group, sizeof group);
    struct rtattr *info = attribute(IFLA_LINKINFO, NULL, 0);
    attribute(IFLA_INFO_KIND, "bridge", 6);
    end(info);
    next();
    address(BRIDGE, "172.20.1.2");

    struct ifinfomsg veth = {.ifi_index = VETH, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    uint32_t master = BRIDGE, owner = pid;
    begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &veth, sizeof veth);
    attribute(IFLA_IFNAME, "veth0", sizeof "veth0");
    attribute(IFLA_MASTER, &master, sizeof master);
    attribute(IFLA_GROUP, &group, sizeof group);
    info = attribute(IFLA_LINKINFO, NULL, 0);
    attribute(IFLA_INFO_KIND, "veth", 4);
    struct rtattr *data = attribute(IFLA_INFO_DATA, NULL, 0);
    struct ifinfomsg inside = {.ifi_index = INSIDE};
    struct rtattr *peer = attribute(VETH_INFO_PEER, &inside, sizeof inside);
    attribute(IFLA_IFNAME, "veth1", sizeof "veth1");
    attribute(IFLA_NET_NS_PID, &owner, sizeof owner);
    end(peer);
    end(data);
    end(info);
    next();
    address(VETH, "172.20.1.3");
    used -= NLMSG_ALIGN(message->nlmsg_len);
    talk(netlink, "bridge and veth");
}

/* The container's side: lo up, veth1 172.20.1.4, up. */
static void links_up(void)
{
    int netlink = open_netlink();
    struct ifinfomsg lo = {.ifi_index = 1, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    begin(RTM_NEWLINK, 0, &lo, sizeof lo);
    next();
    address(INSIDE, "172.20.1.4");
    struct ifinfomsg veth = {.ifi_index = INSIDE, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    begin(RTM_NEWLINK, 0, &veth, sizeof veth);
    talk(netlink, "veth1");
    close(netlink);
}

static void child(int level, const char *root, char **argv, uid_t uid, gid_t gid, int ready)
{
    char byte;
    if (level >= 2 && level < 5)
        map("self", 0, uid, gid);
    if (level >= 5 && read(ready, &byte, 1) != 1)
        die("the parent");
    if (level >= 1 && sethostname("leopard", 7))
        die("sethostname");
    if (level >= 3 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
        die("mount private");
    if (level == 3 && mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL))
        die("mount proc");
    if (level >= 4) {
        if (mount(root, root, NULL, MS_BIND | MS_REC, NULL))
            die("mount bind");
        if (chdir(root))
            die("chdir");
        if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL))
            die("mount proc");
        if (mount("tmpfs", "tmp", "tmpfs", MS_NOSUID | MS_NODEV, NULL))
            die("mount tmpfs");
        /* The old root on top of the new one, and off again: pivot_root(2). */
        if (syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH))
            die("pivot_root");
        if (chdir("/"))
            die("chdir");
    }
    if (level >= 5)
        links_up();
    execv(argv[0], argv);
    die(argv[0]);
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fputs("usage: floor LEVEL ROOTFS COMMAND [ARG]...\n", stderr);
        return 2;
    }
    int level = atoi(argv[1]), status, ready[2] = {-1, -1}, netlink = -1;
    uid_t uid = geteuid();
    gid_t gid = getegid();
    if (level == 6) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNET))
            die("unshare");
        map("self", 1, uid, gid);
    }
    unsigned long flags = SIGCHLD;
    if (level >= 1)
        flags |= CLONE_NEWUTS;
    if (level >= 2)
        flags |= CLONE_NEWUSER;
    if (level >= 3)
        flags |= CLONE_NEWPID | CLONE_NEWNS;
    if (level >= 5) {
        flags |= CLONE_NEWNET;
        if (pipe2(ready, O_CLOEXEC))
            die("pipe2");
    }
    /* Without a stack, this is fork(2) with flags. */
    pid_t pid = syscall(SYS_clone, flags, 0, 0, 0, 0);
    if (pid < 0)
        die("clone");
    if (pid == 0)
        child(level, argv[2], argv + 3, uid, gid, ready[0]);

    /* A group that no other run has: at the end, both links go in one request, which waits once for the
     * kernel's grace period, where two would wait twice. */
    uint32_t group = pid | 0x40000000;
    if (level >= 5) {
        char process[16];
        snprintf(process, sizeof process, "%d", pid);
        map(process, 0, uid, gid);
        netlink = open_netlink();
        connect_to(netlink, pid, group);
        if (write(ready[1], "", 1) != 1)
            die("write");
    }
    if (waitpid(pid, &status, 0) < 0)
        die("waitpid");
    if (level == 5) {
        struct ifinfomsg any = {0};
        begin(RTM_DELLINK, 0, &any, sizeof any);
        attribute(IFLA_GROUP, &group, sizeof group);
        talk(netlink, "delete");
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
