/* An OAuth validator for PostgreSQL 18 that asks the emulator about each token: see src/oauth.rs. */
#include "postgres.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fmgr.h"
#include "libpq/oauth.h"

PG_MODULE_MAGIC;

static bool send_all(int fd, const char *bytes, size_t length)
{
	while (length > 0)
	{
		ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent <= 0)
			return false;
		bytes += sent;
		length -= sent;
	}
	return true;
}

/* Role and token, each with its NUL; then '1' or '0', and the end. */
static bool ask(int fd, const char *role, const char *token, char *verdict)
{
	char		answer[2];
	size_t		length = 0;

	if (!send_all(fd, role, strlen(role) + 1) || !send_all(fd, token, strlen(token) + 1))
		return false;
	for (;;)
	{
		ssize_t		got = recv(fd, answer + length, sizeof answer - length, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		length += got;
	}
	*verdict = answer[0];
	return length == 1 && (*verdict == '0' || *verdict == '1');
}

static bool validate(const ValidatorModuleState *state, const char *token, const char *role,
					 ValidatorModuleResult *result)
{
	const char *port = getenv("PGAAD_VALIDATOR_PORT");
	struct sockaddr_in address = {.sin_family = AF_INET};
	char		verdict = '0';
	int			fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool		asked;

	address.sin_port = htons(port ? atoi(port) : 0);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	asked = fd >= 0 && connect(fd, (struct sockaddr *) &address, sizeof address) == 0
		&& ask(fd, role, token, &verdict);
	if (fd >= 0)
		close(fd);
	if (!asked)
	{
		ereport(LOG, errmsg("the emulator does not say what it thinks of a token"));
		return false;
	}
	/* The token's owner is the role that it opens, and no other: the emulator has looked. */
	result->authorized = verdict == '1';
	if (result->authorized)
		result->authn_id = pstrdup(role);
	return true;
}

static const OAuthValidatorCallbacks callbacks = {PG_OAUTH_VALIDATOR_MAGIC, NULL, NULL, validate};

const OAuthValidatorCallbacks *_PG_oauth_validator_module_init(void)
{
	return &callbacks;
}
