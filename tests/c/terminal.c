/* A shell at a terminal of its own, with one job: keys are pressed, and it is told what becomes of the job.
 * "key N" presses one, "wait" waits for a change, "fg" lets the job go on; each answer ends with a line ".". */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void need(int ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    need(argc > 1, "a program");
    need(setsid() > 0, "setsid");
    int keys = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    need(keys >= 0 && !grantpt(keys) && !unlockpt(keys), "a terminal");
    int terminal = open(ptsname(keys), O_RDWR | O_CLOEXEC);
    need(terminal >= 0 && !ioctl(terminal, TIOCSCTTY, 0), "its other end");
    signal(SIGTTOU, SIG_IGN);
    signal(SIGHUP, SIG_IGN);

    pid_t job = fork();
    need(job >= 0, "fork");
    if (!job) {
        setpgid(0, 0);
        tcsetpgrp(terminal, getpid());
        signal(SIGTTOU, SIG_DFL);
        signal(SIGHUP, SIG_DFL);
        /* The keys' echo stays unread, so nothing else is printed there. */
        dup2(terminal, STDIN_FILENO);
        execvp(argv[1], argv + 1);
        _exit(99);
    }
    setpgid(job, job);
    tcsetpgrp(terminal, job);

    char line[256];
    while (fgets(line, sizeof line, stdin)) {
        int number = 0, status = 0;
        if (sscanf(line, "key %d", &number) == 1) {
            char key = (char) number;
            need(write(keys, &key, 1) == 1, "a key");
        } else if (!strncmp(line, "wait", 4)) {
            need(waitpid(job, &status, WUNTRACED) == job, "waitpid");
            tcsetpgrp(terminal, getpgrp());
            if (WIFSTOPPED(status))
                printf("stopped %d\n", WSTOPSIG(status));
            else if (WIFSIGNALED(status))
                printf("killed %d\n", WTERMSIG(status));
            else
                printf("exited %d\n", WEXITSTATUS(status));
        } else if (!strncmp(line, "fg", 2)) {
            tcsetpgrp(terminal, job);
            killpg(job, SIGCONT);
        }
        puts(".");
        fflush(stdout);
    }
    killpg(job, SIGKILL);
    return 0;
}
