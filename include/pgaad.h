/* pgaad: signs programs built on libpq in to Azure Database for PostgreSQL with Microsoft Entra ID.
 *
 * The short way: change PQconnectdb to pgaad_connectdb. On Azure there is mostly nothing to set; elsewhere
 * PGAAD_TENANT_ID, PGAAD_CLIENT_ID, PGAAD_CLIENT_SECRET, and PGUSER to the application's role. pgaad(7) and the
 * README have the settings, and when a token is used.
 *
 * Strings    are NUL-terminated. Settings and what is returned are UTF-8; conninfos, keywords and values are bytes,
 *            as for libpq. NULL or "" for a conninfo or settings means the environment alone.
 * Outputs    may be uninitialised. A string handed out belongs to the caller, who gives it back with pgaad_free.
 *            errmsg may be NULL. On success *errmsg is NULL; on failure every other output is NULL or 0 (a
 *            descriptor: -1), and *errmsg is one line that begins with "pgaad: ", says what to do and never holds a
 *            secret (NULL only for lack of memory).
 * NULL       where a pointer is required is answered with PGAAD_INVALID_ARGUMENT.
 * Threads    Every function may be called from any thread, at the same time as any other; only pgaad_client_free
 *            ends this: no call on that client may start after it.
 * Fork       Every function may be called in a child, the connect functions as far as libpq itself allows it. A
 *            fork waits up to a second for threads of ours to leave the C library's resolver.
 * Processes  No function exits, aborts (memory exhaustion aside), installs signal handlers or leaves a descriptor
 *            open across exec. Threads of ours block all signals and do not keep the process from exiting.
 *
 * This file is generated from src/ffi; it needs no header of libpq's and can stand before or after libpq-fe.h.
 */


#ifndef PGAAD_H
#define PGAAD_H

#include <stdint.h>

/* The version of this header; pgaad_version() is the library's. */
#define PGAAD_VERSION "0.1.0"
#define PGAAD_VERSION_NUMBER 100

/* libpq's PGconn. */
struct pg_conn;


/**
 * The place for the answer of a token callback. It ends when the callback returns.
 */
typedef struct pgaad_answer pgaad_answer;

/**
 * One identity with its settings and its tokens. Any number of threads may use one client at the same time.
 */
typedef struct pgaad_client pgaad_client;

/**
 * How a call ended. 0 is success; a number that a program does not know is a failure.
 */
typedef int32_t pgaad_status;

/**
 * Gets a token for a client, from wherever the program has tokens, and answers with pgaad_answer_token or
 * pgaad_answer_error, once, before it returns. It must return: no longjmp, no exception.
 *
 * The function may call pgaad for other clients, and give its own client back; what else it calls for its own client
 * answers PGAAD_INVALID_ARGUMENT.
 *
 * userdata: what pgaad_client_new_callback was given.
 * scope: what the token is for, such as "https://ossrdbms-aad.database.windows.net/.default"; valid during the call.
 * timeout_ms: how long the caller waits, in milliseconds; a call that allows no time (0) does not get here. A function
 *   that takes longer holds up the call that runs it.
 * answer: valid until the function returns; another thread may answer meanwhile.
 */
typedef void (*pgaad_token_fn)(void *userdata, const char *scope, int timeout_ms, pgaad_answer *answer);

/**
 * Releases the userdata of a callback. NULL: there is nothing to release.
 */
typedef void (*pgaad_release_fn)(void *userdata);

/**
 * Finds a function of libpq by name. NULL: not found.
 */
typedef void *(*pgaad_symbol_fn)(const char *symbol, void *userdata);

/**
 * Success.
 */
#define PGAAD_OK 0

/**
 * NULL where a pointer is required, or text that is not UTF-8.
 */
#define PGAAD_INVALID_ARGUMENT 1

/**
 * A setting is missing, malformed or contradicts another one.
 */
#define PGAAD_CONFIG 2

/**
 * A token was asked for, but auth=off.
 */
#define PGAAD_DISABLED 3

/**
 * No credential source is here.
 */
#define PGAAD_UNAVAILABLE 4

/**
 * Entra answered, and said no (AADSTS...): retrying will not help.
 */
#define PGAAD_DENIED 5

/**
 * Told to come back later (429, or Retry-After); the message says when.
 */
#define PGAAD_THROTTLED 6

/**
 * No connection to the token service (DNS, TCP, TLS, an untrusted certificate), or its 5xx, all tries used.
 */
#define PGAAD_NETWORK 7

/**
 * The deadline passed; or no token was there, and the call was not to wait.
 */
#define PGAAD_TIMEOUT 8

/**
 * An answer that is no token answer.
 */
#define PGAAD_PROTOCOL 9

/**
 * The token would have gone out without TLS or to a stranger: refused.
 */
#define PGAAD_INSECURE 10

/**
 * libpq could not be found in this process or loaded, is older than 12, or several are and none is chosen.
 */
#define PGAAD_LIBPQ 11

/**
 * A bug in pgaad, caught at the boundary.
 */
#define PGAAD_INTERNAL 12

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The library's version, "1.2.3", to compare with PGAAD_VERSION, which is the header's. Static: not given back.
 */
const char *pgaad_version(void);

/**
 * The library's version as one number: 10203 is 1.2.3.
 */
int pgaad_version_number(void);

/**
 * The name of a status, such as "PGAAD_DENIED"; a number that is no status has the name "PGAAD_UNKNOWN". Static,
 * never NULL.
 */
const char *pgaad_status_name(pgaad_status status);

/**
 * Gives back a string that one of these functions handed out through a char **: wipes it, then frees it. Not
 * free(3), which would leave a token in memory.
 *
 * string: to be given back once. NULL is fine; static strings (pgaad_version, pgaad_status_name) are not given back.
 */
void pgaad_free(void *string);

/**
 * Gets a token for the database, from memory while it is fresh, else from Entra or wherever the identity has its
 * tokens; of many threads that ask, one fetches. Needs no libpq.
 *
 * token: out, to be given back with pgaad_free.
 * Waits: up to the setting timeout_ms.
 * Fails: with PGAAD_CONFIG, PGAAD_DISABLED, PGAAD_UNAVAILABLE, PGAAD_DENIED, PGAAD_THROTTLED, PGAAD_NETWORK,
 *   PGAAD_TIMEOUT or PGAAD_PROTOCOL, which say why there is no token.
 */
pgaad_status pgaad_get_token(char **token,
                             char **errmsg);

/**
 * Writes a conninfo string for libpq: the caller's options, and, where Entra is on for this server, a token as
 * password and what keeps it safe (verified TLS, no other host than the one that was judged). Where Entra is off for
 * this server it is the caller's options without a token. Needs no libpq.
 *
 * conninfo: as for PQconnectdb, key=value or a URI; NULL or "" is the environment alone. Options that pgaad does not
 *   know are passed on.
 * connstring: out, to be given back with pgaad_free; it holds a secret.
 * Waits: as pgaad_connectdb does for a token.
 * PGAAD_CONFIG: the string or its connection service cannot be read, or an option contradicts a token.
 * PGAAD_INSECURE: the token may not go there.
 * Fails: else as pgaad_get_token.
 */
pgaad_status pgaad_connstring(const char *conninfo,
                              char **connstring,
                              char **errmsg);

/**
 * PQconnectdb, signed in with Entra where it is on for this server.
 *
 * Keeps libpq's contract: the result is NULL only for lack of memory or of libpq itself (pgaad_libpq says why); on
 * any failure PQstatus is CONNECTION_BAD, PQerrorMessage says why (ours begins with "pgaad: "), and PQfinish
 * releases everything.
 *
 * A server that refuses a token that was not fetched for this call is asked once more with a fresh one, at most once
 * a minute for each client. The token is good for this connect: PQreset would send the same one again, pgaad_reset
 * sends a fresh one.
 *
 * conninfo: as for PQconnectdb, key=value or a URI; NULL or "" is the environment alone.
 * Waits: for a token up to the setting timeout_ms or the connection's connect_timeout, whichever is shorter; then
 *   libpq's connect_timeout runs.
 */
struct pg_conn *pgaad_connectdb(const char *conninfo);

/**
 * PQconnectdbParams, signed in with Entra where it is on for this server.
 *
 * keywords: read as libpq reads them: up to a NULL, and the last of equal ones counts. The array itself NULL: a BAD
 *   connection with PGAAD_INVALID_ARGUMENT.
 * values: one for each keyword; an empty one, or NULL, is none. The array itself NULL: as for keywords.
 * expand_dbname: not 0: a connection string in the first dbname is expanded.
 */
struct pg_conn *pgaad_connectdb_params(const char *const *keywords,
                                       const char *const *values,
                                       int expand_dbname);

/**
 * PQconnectStart, signed in with Entra where it is on for this server; the caller goes on with PQconnectPoll. On any
 * failure the result is BAD as that of pgaad_connectdb.
 *
 * Waits: for the lookup of a host name, as PQconnectStart does; and, where no token is there, for one as
 *   pgaad_connectdb does, unless pgaad_client_prefetch was called for this client: then never.
 */
struct pg_conn *pgaad_connect_start(const char *conninfo);

/**
 * PQconnectStartParams, as pgaad_connect_start is PQconnectStart; the arrays are those of pgaad_connectdb_params.
 */
struct pg_conn *pgaad_connect_start_params(const char *const *keywords,
                                           const char *const *values,
                                           int expand_dbname);

/**
 * PQreset with a fresh token, for a connection that one of these functions returned, and by the identity that opened
 * it; with a second attempt as pgaad_connectdb. In an event loop, PQfinish and pgaad_connect_start; PQresetStart would
 * send the old token.
 *
 * Options stay what they were when the connection was opened, wherever they came from; host and TLS are judged anew.
 * A connection without Entra is reset as by PQreset; one that pgaad failed to open is opened anew with its first
 * arguments.
 *
 * conn: in and out. The same connection as long as the new token fits in the place of the old one; else a new one with
 *   the same options, and the old one is finished (notice receivers, event procedures, verbosity and trace are then
 *   the caller's to set again). On failure it is as it was.
 * Waits: for a token as pgaad_connectdb, then for the server as PQreset.
 * PGAAD_OK: it was tried, see PQstatus.
 * PGAAD_INVALID_ARGUMENT: the client that opened the connection is gone.
 * PGAAD_CONFIG: PGSERVICE now says something else, or an option contradicts a token.
 * PGAAD_INSECURE: the token may not go there.
 * Fails: else as pgaad_get_token.
 */
pgaad_status pgaad_reset(struct pg_conn **conn,
                         char **errmsg);

/**
 * Makes a client of its own settings. Sends nothing yet.
 *
 * settings: in the grammar of a conninfo string: "tenant_id=... client_id=... client_secret_file=/run/secrets/db".
 *   What they leave out comes from the environment; NULL or "" is the environment alone.
 * client: out, to be given back with pgaad_client_free.
 * PGAAD_CONFIG: a setting is unknown, missing, malformed or contradicts another one; the message names it.
 */
pgaad_status pgaad_client_new(const char *settings,
                              pgaad_client **client,
                              char **errmsg);

/**
 * Answers a token callback with a token. An answer with NULL, with what cannot be a token, with one that has expired,
 * or a second answer makes the call that needs the token fail with PGAAD_PROTOCOL.
 *
 * token: the token; it is copied.
 * expires_on: until when it is good, in Unix seconds (UTC); 0: as the token's own claim "exp" says; of both the
 *   earlier counts.
 */
void pgaad_answer_token(pgaad_answer *answer,
                        const char *token,
                        int64_t expires_on);

/**
 * Answers a token callback with a failure.
 *
 * status: what the call that needs the token is to fail with, such as PGAAD_DENIED or PGAAD_NETWORK; a number that is
 *   no failure becomes PGAAD_PROTOCOL.
 * message: a line for people, UTF-8, without secrets; is copied. NULL: there is none.
 */
void pgaad_answer_error(pgaad_answer *answer,
                        pgaad_status status,
                        const char *message);

/**
 * Makes a client whose tokens the program itself supplies; they are kept and renewed like any other. Entra is on for
 * every connection of such a client, whatever PGAAD_AUTH says.
 *
 * settings: as for pgaad_client_new; auth may be "callback" or absent.
 * fetch: called on the thread of a call that needs a token, one call at a time for each client; under
 *   callback_thread=any on a thread of ours, which it may never have seen.
 * userdata: handed to fetch and release as it is.
 * release: may be NULL. Called once, on any thread, when the client has been given back and no fetch runs; not if this
 *   function fails, and not for a client that is never given back.
 * client: out, to be given back with pgaad_client_free.
 * Fails: as pgaad_client_new.
 */
pgaad_status pgaad_client_new_callback(const char *settings,
                                       pgaad_token_fn fetch,
                                       void *userdata,
                                       pgaad_release_fn release,
                                       pgaad_client **client,
                                       char **errmsg);

/**
 * The client behind the functions that take none, made from the environment at first use. A first use that fails is
 * not remembered: set the environment right and call again.
 *
 * client: out. It belongs to the library: freeing it does nothing.
 * Fails: as pgaad_client_new.
 */
pgaad_status pgaad_client_default(pgaad_client **client,
                                  char **errmsg);

/**
 * Gives a client back. Calls that still run on it finish; none may start after this. Strings and connections taken
 * from it stay valid.
 *
 * client: NULL is fine.
 */
void pgaad_client_free(pgaad_client *client);

/**
 * pgaad_get_token for a client.
 *
 * timeout_ms: how long this call may wait, in milliseconds; negative: the client's setting; 0: a token that is here
 *   already, else PGAAD_TIMEOUT. A caller who gives up leaves the fetch running for others.
 * expires_on: out, may be NULL: until when the token is good, in Unix seconds (UTC).
 */
pgaad_status pgaad_client_get_token(pgaad_client *client,
                                    int timeout_ms,
                                    char **token,
                                    int64_t *expires_on,
                                    char **errmsg);

/**
 * The user that the client's identity is to the database, as its token says: a user's principal name, or the name of a
 * user-assigned identity. It may take a second token, for Azure Resource Manager, to find out. PGUSER and the like
 * don't count here. Needs no libpq.
 *
 * user: out, to be given back with pgaad_free.
 * Waits: up to the setting timeout_ms.
 * PGAAD_CONFIG: no token of this identity holds a name (those of applications and of system-assigned identities
 *   don't): set user.
 * Fails: else as pgaad_get_token.
 */
pgaad_status pgaad_client_get_user(pgaad_client *client,
                                   char **user,
                                   char **errmsg);

/**
 * pgaad_connstring for a client.
 */
pgaad_status pgaad_client_connstring(pgaad_client *client,
                                     const char *conninfo,
                                     char **connstring,
                                     char **errmsg);

/**
 * pgaad_connectdb for a client.
 */
struct pg_conn *pgaad_client_connectdb(pgaad_client *client, const char *conninfo);

/**
 * pgaad_connectdb_params for a client.
 */
struct pg_conn *pgaad_client_connectdb_params(pgaad_client *client,
                                              const char *const *keywords,
                                              const char *const *values,
                                              int expand_dbname);

/**
 * pgaad_connect_start for a client.
 */
struct pg_conn *pgaad_client_connect_start(pgaad_client *client, const char *conninfo);

/**
 * pgaad_connect_start_params for a client.
 */
struct pg_conn *pgaad_client_connect_start_params(pgaad_client *client,
                                                  const char *const *keywords,
                                                  const char *const *values,
                                                  int expand_dbname);

/**
 * pgaad_reset by this client, whoever opened the connection.
 */
pgaad_status pgaad_client_reset(pgaad_client *client, struct pg_conn **conn, char **errmsg);

/**
 * Drops the client's tokens, in this process and in a shared cache, so that the next call fetches one, and so does
 * each process that holds none yet; one that has a token in memory keeps it until it is to be refreshed. A token that
 * another process is fetching meanwhile is not shared either. The default client also reads its environment anew;
 * where the environment is not right, the error says so now and at each use.
 *
 * Waits: for a shared cache, two seconds at most, also where the cache is left alone after a failure.
 * PGAAD_CONFIG: the default client's environment is not right.
 * PGAAD_NETWORK: dropped here, but the shared cache could not be reached, and others may still take it from there;
 *   call again.
 */
pgaad_status pgaad_client_invalidate(pgaad_client *client,
                                     char **errmsg);

/**
 * For event loops: makes sure that a token is there or under way.
 *
 * To be called before each connection, or whenever the last token may have expired: where a good one is at hand, the
 * descriptor is readable at once. A failure is no reason not to connect: the connect function says why there is no
 * token, and goes to libpq where none is wanted (PGAAD_DISABLED here). A server that refuses a token says so on the
 * connection; then pgaad_client_invalidate, and prefetch again, for a fresh one.
 *
 * From the first call on, pgaad_client_connect_start of this client never fetches or waits: it uses the token held,
 * else says why the last prefetch failed, else PGAAD_TIMEOUT. It is a token for the setting scope, which servers of
 * Azure Cosmos DB want another one of.
 *
 * fd: out, a descriptor of the caller's own, to be closed with close(2). It becomes readable, and stays so, when a
 *   token is there or none could be had; select, poll, epoll and io_uring can wait for that (one that is closed
 *   before is to be taken out of an epoll set first). Any number of them wait for one fetch. A child after fork is
 *   told nothing by them.
 * Waits: never.
 * PGAAD_CONFIG: a setting is wrong, or a token callback may only be called on the thread of a call
 *   (callback_thread=any lets it).
 * PGAAD_DISABLED: no token is wanted (auth=off).
 */
pgaad_status pgaad_client_prefetch(pgaad_client *client,
                                   int *fd,
                                   char **errmsg);

/**
 * What a client has, did and failed with, as one JSON object, for people and monitors: "credential" in use, "tid",
 * "appid", "oid", "aud" and "user" of its token, "origin" of the token ("entra", "file", "redis": where this process
 * got it, which then has it in memory), "expires_on", "last_good_fetch", "next_refresh" and "failing_since" (Unix
 * seconds or null), the counts "hits" (calls that had a token at once), "misses" (calls that fetched), "waits" (calls
 * that waited for another's fetch), "refreshes" (fetches, and finds in a shared cache) and "failures" (of them),
 * "last_error", and "settings": where each came from.
 *
 * All of it is of the token for databases of the client's own cloud. Members may be added. Never a secret or a token.
 *
 * json: out, to be given back with pgaad_free.
 * Waits: never.
 * PGAAD_CONFIG: the default client's environment is not right.
 */
pgaad_status pgaad_client_stats(pgaad_client *client,
                                char **json,
                                char **errmsg);

/**
 * Why a connection that one of these functions returned is BAD: the status of our failure, if it was ours.
 *
 * conn: of a connect function; it stays the caller's.
 * Waits: never.
 * PGAAD_OK: the failure is libpq's or the server's; or the connection is good, or none of ours.
 * PGAAD_INVALID_ARGUMENT: conn is NULL, or a NULL is why it is BAD.
 */
pgaad_status pgaad_connection_status(struct pg_conn *conn);

/**
 * For libpq 18 and later: servers that ask for OAUTHBEARER get the token of the client that opened the connection,
 * servers that ask for a password get it as before. To be called once, before the first connect; later calls do
 * nothing.
 *
 * It puts a hook (PQsetAuthDataHook) before the one that is set, which gets all that isn't ours. oauth_issuer and
 * oauth_client_id are added where they are absent.
 *
 * Waits: never.
 * PGAAD_LIBPQ: there is none, or it is older; the message has its version.
 */
pgaad_status pgaad_use_oauth(char **errmsg);

/**
 * For programs with a static, private or second libpq: names the one whose PGconn they use. To be called before the
 * first connect.
 *
 * resolve: finds its functions; called only before this returns.
 * userdata: handed to resolve as it is.
 * Waits: never.
 * PGAAD_INVALID_ARGUMENT: too late: after the first connect.
 * PGAAD_LIBPQ: resolve does not know a function of libpq's, or that libpq is too old.
 */
pgaad_status pgaad_use_libpq(pgaad_symbol_fn resolve,
                             void *userdata,
                             char **errmsg);

/**
 * Which libpq is in use, or would be at the next connect (one is loaded if there is none); or why there is none.
 *
 * version: out, as PQlibVersion (150018).
 * path: out, the file that it is in, to be given back with pgaad_free.
 * Waits: never.
 * PGAAD_LIBPQ: libpq cannot be found or loaded, is older than 12, or several are loaded and none is chosen.
 */
pgaad_status pgaad_libpq(int *version,
                         char **path,
                         char **errmsg);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PGAAD_H */
