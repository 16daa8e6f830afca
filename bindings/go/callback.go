package pgaad

/*
#include <stdint.h>
#include <pgaad.h>

extern void pgaadGoFetch(uintptr_t, char *, int, pgaad_answer *);
extern void pgaadGoRelease(uintptr_t);

static void fetch(void *userdata, const char *scope, int timeout_ms, pgaad_answer *answer)
{
    pgaadGoFetch((uintptr_t)userdata, (char *)scope, timeout_ms, answer);
}

static void release(void *userdata)
{
    pgaadGoRelease((uintptr_t)userdata);
}

// A handle is a number that stands for a Go value; as a pointer it would not please Go.
static pgaad_status new_callback(const char *settings, uintptr_t handle, pgaad_client **client, char **errmsg)
{
    return pgaad_client_new_callback(settings, fetch, (void *)handle, release, client, errmsg);
}
*/
import "C"

import (
	"context"
	"runtime/cgo"
)

// A TokenFunc gets a token for a client, from wherever the program has tokens. The scope is what the token is for, such as
// "https://ossrdbms-aad.database.windows.net/.default". It is called by one goroutine at a time, mostly not the one that
// needs the token, and must heed the context, which ends when its time is over.
//
// An error becomes that of the calls that need the token: with its message, and its status where it is an *Error or a Status
// such as ErrDenied; otherwise with ErrTimeout for a deadline, else ErrUnavailable. A panic becomes ErrProtocol. What the
// function asks of its own client with that context is ErrInvalidArgument; other clients are fine.
type TokenFunc func(ctx context.Context, scope string) (Token, error)

// supplier is what the library calls back. It does not know its client, which would never be collected then.
type supplier struct{ fetch TokenFunc }

// fetching is the key by which the context of a token function knows its supplier.
type fetching struct{}

// NewCallback makes a client whose tokens come from fetch; they are kept and renewed like any other. Entra is on for each of
// its connections. The settings are those of [New]; auth may be "callback" or absent.
func NewCallback(settings string, fetch TokenFunc) (*Client, error) {
	if fetch == nil {
		return nil, &Error{Status: ErrInvalidArgument, Message: "pgaad: the token function is nil"}
	}
	source := &supplier{fetch}
	handle := cgo.NewHandle(source)
	client, err := newClient(func(client **C.pgaad_client, message **C.char) (C.pgaad_status, error) {
		// A goroutine has no thread of its own that the function could count on.
		text, err := terminated("settings", "callback_thread=any "+settings)
		if err != nil {
			return 0, err
		}
		return C.new_callback(pointer(text), C.uintptr_t(handle), client, message), nil
	})
	if err != nil {
		handle.Delete()
		return nil, err
	}
	client.source = source
	return client, nil
}
