/* Preloaded into programs by test_supply.py: each attempt to reach or to serve a network is refused and written to the
 * file that NETWORK names. Sockets between processes of this machine (AF_UNIX) are left alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int refused(const char *call, const struct sockaddr *address)
{
	if (address == NULL || (address->sa_family != AF_INET && address->sa_family != AF_INET6))
		return 0;
	char line[128];
	int length = snprintf(line, sizeof line, "%s by %s\n", call, program_invocation_short_name);
	int file = open(getenv("NETWORK"), O_WRONLY | O_APPEND | O_CREAT, 0600);
	if (file >= 0 && write(file, line, length) == length)
		close(file);
	errno = ENETUNREACH;
	return 1;
}

#define NEXT(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))

int connect(int descriptor, const struct sockaddr *address, socklen_t size)
{
	return refused("connect", address) ? -1 : NEXT(connect)(descriptor, address, size);
}

int bind(int descriptor, const struct sockaddr *address, socklen_t size)
{
	return refused("bind", address) ? -1 : NEXT(bind)(descriptor, address, size);
}

ssize_t sendto(int descriptor, const void *data, size_t length, int flags, const struct sockaddr *address, socklen_t size)
{
	return refused("sendto", address) ? -1 : NEXT(sendto)(descriptor, data, length, flags, address, size);
}

ssize_t sendmsg(int descriptor, const struct msghdr *message, int flags)
{
	return refused("sendmsg", message->msg_name) ? -1 : NEXT(sendmsg)(descriptor, message, flags);
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
	struct sockaddr any = {.sa_family = AF_INET};
	return name != NULL && refused("getaddrinfo", &any) ? EAI_AGAIN : NEXT(getaddrinfo)(name, service, hints, found);
}
