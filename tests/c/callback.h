/* Token callbacks, a part of driver.c. What they do is scripted:
 *
 *   new_callback SETTINGS ACTION...   pgaad_client_new_callback. Each call of its function does the next ACTION, the
 *                                   last one for ever; new_unreleased is the same without a function that releases
 *   supplier                        what is known of the function behind the client, or behind the one that was here
 *   go                              one function that waits goes on
 *   churn N                         invalidates and gets a token N times
 *
 * An ACTION is a list of steps with | between them:
 *
 *   token EXPIRES_ON TOKEN | null EXPIRES_ON | error STATUS MESSAGE | error STATUS     the answers
 *   wait                            until somebody says go
 *   yield                           lets other threads run
 *   own                             calls every function on its own client, and says what came of it
 *   other N                         gets a token of client N, and says what came of it
 *   relay N                         the same, and answers with it
 *   free                            frees its own client
 *   thread                          another thread does the rest, before the function returns
 */

struct supplier {
    int place, count;
    char **actions;
    atomic_int calls, inside, most, released, timeout_ms;
    char scope[256], thread[16];
    pid_t tid;
    unsigned long blocked;
    struct supplier *next;
};
/* Of each place; those that were there before hang on. */
static struct supplier *suppliers[8];
static sem_t gone;

struct rest {
    struct supplier *self;
    char *steps;
    pgaad_answer *answer;
};

static void call_own_client(pgaad_client *own)
{
    char *value, *errmsg;
    pgaad_status status = pgaad_client_get_token(own, -1, &value, NULL, &errmsg);
    report("own_get_token", status, "value", value, errmsg);
    status = pgaad_client_get_token(own, 0, &value, NULL, &errmsg);
    report("own_get_token_at_once", status, "value", value, errmsg);
    status = pgaad_client_get_user(own, &value, &errmsg);
    report("own_get_user", status, "value", value, errmsg);
    status = pgaad_client_connstring(own, "host=localhost user=x", &value, &errmsg);
    report("own_connstring", status, "value", value, errmsg);
    PGconn *made = pgaad_client_connectdb(own, "host=localhost user=x");
    errmsg = strndup(PQerrorMessage(made), strcspn(PQerrorMessage(made), "\n"));
    say("own_connectdb status=%s errmsg=%s\n", pgaad_status_name(pgaad_connection_status(made)), errmsg);
    free(errmsg);
    PQfinish(made);
    made = pgaad_client_connect_start(own, "host=localhost user=x");
    errmsg = strndup(PQerrorMessage(made), strcspn(PQerrorMessage(made), "\n"));
    say("own_connect_start status=%s errmsg=%s\n", pgaad_status_name(pgaad_connection_status(made)), errmsg);
    free(errmsg);
    status = pgaad_client_reset(own, &made, &errmsg);
    report("own_reset", status, NULL, NULL, errmsg);
    PQfinish(made);
    int fd;
    status = pgaad_client_prefetch(own, &fd, &errmsg);
    report("own_prefetch", status, NULL, NULL, errmsg);
    status = pgaad_client_invalidate(own, &errmsg);
    report("own_invalidate", status, NULL, NULL, errmsg);
}

static void *do_steps(void *pointer);

/* Does the first of the steps; returns whether there is more to do. */
static int do_step(struct rest *rest)
{
    char *step = strsep(&rest->steps, "|"), *word = strsep(&step, " ");
    struct supplier *self = rest->self;
    if (!strcmp(word, "token")) {
        long long expires_on = atoll(strsep(&step, " "));
        pgaad_answer_token(rest->answer, step ? step : "", expires_on);
    } else if (!strcmp(word, "null")) {
        pgaad_answer_token(rest->answer, NULL, atoll(step));
    } else if (!strcmp(word, "error")) {
        pgaad_status status = atoi(strsep(&step, " "));
        pgaad_answer_error(rest->answer, status, step);
    } else if (!strcmp(word, "wait")) {
        while (sem_wait(&gone))
            ;
    } else if (!strcmp(word, "yield")) {
        for (int i = 0; i < 50; i++)
            sched_yield();
    } else if (!strcmp(word, "own")) {
        call_own_client(clients[self->place]);
    } else if (!strcmp(word, "other") || !strcmp(word, "relay")) {
        char *value, *errmsg;
        int64_t expires_on;
        pgaad_status status = pgaad_client_get_token(clients[atoi(step)], -1, &value, &expires_on, &errmsg);
        if (*word == 'r')
            pgaad_answer_token(rest->answer, value, expires_on);
        report("other", status, "value", value, errmsg);
    } else if (!strcmp(word, "free")) {
        pgaad_client_free(clients[self->place]);
        clients[self->place] = NULL;
    } else if (!strcmp(word, "thread")) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, do_steps, rest))
            abort();
        pthread_join(thread, NULL);
        return 0;
    } else if (strcmp(word, "nothing")) {
        fprintf(stderr, "driver: a callback cannot %s\n", word);
        abort();
    }
    return rest->steps != NULL;
}

static void *do_steps(void *pointer)
{
    while (do_step(pointer))
        ;
    return NULL;
}

static void fetch(void *userdata, const char *scope, int timeout_ms, pgaad_answer *answer)
{
    struct supplier *self = userdata;
    int call = atomic_fetch_add(&self->calls, 1), inside = atomic_fetch_add(&self->inside, 1) + 1;
    sigset_t blocked;
    if (inside > self->most)
        self->most = inside;
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    memcpy(&self->blocked, &blocked, sizeof self->blocked);
    prctl(PR_GET_NAME, self->thread);
    snprintf(self->scope, sizeof self->scope, "%s", scope);
    self->timeout_ms = timeout_ms;
    self->tid = (pid_t) syscall(SYS_gettid);
    char *steps = strdup(self->actions[call < self->count ? call : self->count - 1]);
    do_steps(&(struct rest) { self, steps, answer });
    free(steps);
    atomic_fetch_sub(&self->inside, 1);
}

static void release(void *userdata)
{
    atomic_fetch_add(&((struct supplier *) userdata)->released, 1);
}

static void new_callback(const char *command, const char *settings, char **actions, int count)
{
    struct supplier *made = calloc(1, sizeof *made);
    char *errmsg;
    *made = (struct supplier) {
        .place = at, .count = count, .actions = calloc(count, sizeof *actions), .next = suppliers[at]
    };
    for (int i = 0; i < count; i++)
        made->actions[i] = strdup(actions[i]);
    suppliers[at] = made;
    pgaad_status status = pgaad_client_new_callback(settings, fetch, made, command[4] == 'c' ? release : NULL,
                                                    &client, &errmsg);
    report(command, status, NULL, NULL, errmsg);
}

static void say_supplier(void)
{
    struct supplier *self = suppliers[at];
    say("supplier calls=%d inside=%d most=%d released=%d timeout=%d tid=%d blocked=%016lx thread=%s scope=%s\n",
        self->calls, self->inside, self->most, self->released, self->timeout_ms, self->tid, self->blocked,
        self->thread, self->scope);
}

static void churn(int times)
{
    int failures = 0;
    for (int i = 0; i < times; i++) {
        char *token;
        if (pgaad_client_invalidate(client, NULL) || pgaad_client_get_token(client, -1, &token, NULL, NULL))
            failures++;
        else
            pgaad_free(token);
    }
    say("churn failures=%d\n", failures);
}
