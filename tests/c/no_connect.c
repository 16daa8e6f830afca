/* Stands before the C library's connect: notes in the file CONNECT_LOG where it was to lead, and refuses, so that
 * nothing is sent there. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void note(const char *address, int port)
{
    char line[100];
    int length = snprintf(line, sizeof line, "%s %d\n", address, port);
    int file = open(getenv("CONNECT_LOG"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || write(file, line, length) != length)
        abort();
    close(file);
}

int connect(int fd, const struct sockaddr *to, socklen_t length)
{
    char address[INET6_ADDRSTRLEN] = "";
    (void) fd;
    if (to->sa_family == AF_INET && length >= sizeof(struct sockaddr_in)) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *) to;
        note(inet_ntop(AF_INET, &v4->sin_addr, address, sizeof address), ntohs(v4->sin_port));
    } else if (to->sa_family == AF_INET6 && length >= sizeof(struct sockaddr_in6)) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *) to;
        note(inet_ntop(AF_INET6, &v6->sin6_addr, address, sizeof address), ntohs(v6->sin6_port));
    }
    errno = ECONNREFUSED;
    return -1;
}
