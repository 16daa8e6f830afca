// Package pgaad signs Go programs in to Azure Database for PostgreSQL with Microsoft Entra ID: it gets an access token,
// keeps it fresh, and gives it to pgx or lib/pq as the password of each new connection, over TLS that is verified.
//
// With pgx, version 4 or 5:
//
//	client, err := pgaad.NewDefault()
//	// ...
//	config, err := pgxpool.ParseConfig(url)
//	// ...
//	config.BeforeConnect = pgaad.BeforeConnect(client, url, pgx.ParseConfig)
//
// With database/sql and lib/pq:
//
//	db := sql.OpenDB(pgaad.Connector(client, url, pq.NewConnector))
//
// Both ask for each connection anew, since a token is checked when connecting, and only then: a connection that is open
// outlives its token. Whether a server gets a token at all, and what must hold then, is decided as in every language; where
// it gets none, the connection is made with the caller's own options. The README of pgaad has the settings and the rules.
//
// The package binds libpgaad, which pkg-config finds; at run time the loader must find libpgaad.so.0 too.
//
// # Contexts
//
// A call whose context ends returns at once, with an error that wraps context.Canceled or context.DeadlineExceeded. What it
// waited for goes on for the others that need the same token, for as long as the setting timeout_ms allows. However many
// calls are given up, no more than eight operating system threads of a client wait meanwhile.
//
// # Errors
//
// Other errors are an *[Error], which holds a [Status] and the library's message: one line that says what to do and never
// holds a secret. Compare with errors.Is(err, pgaad.ErrDenied).
package pgaad

/*
#cgo pkg-config: pgaad
#include <pgaad.h>
*/
import "C"

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"
	"unsafe"
)

// maxWaiting bounds the calls of one client that wait in the library, each of which holds an operating system thread.
const maxWaiting = 8

// grace is what a call in the library may take beyond its context, whose error then comes first.
const grace = time.Second

// A Client signs in as one identity. Make one with [New], [NewDefault] or [NewCallback], share it between all goroutines,
// which then share its token, and Close it when it is no longer needed. All methods may be called at the same time.
type Client struct {
	waiting chan struct{}
	source  *supplier // of the tokens, where that is a function of the program's

	mu      sync.Mutex
	handle  *C.pgaad_client
	running int // calls that use the handle
	closed  bool
}

// New makes a client of its own settings, which have the grammar of a connection string: "auth=managed_identity
// client_id=..."; see [Quote]. What they leave out comes from the environment; "" is the environment alone. It sends nothing
// yet. ErrConfig names the setting that is unknown, missing, malformed or contradicts another one.
func New(settings string) (*Client, error) {
	return newClient(func(handle **C.pgaad_client, message **C.char) (C.pgaad_status, error) {
		text, err := terminated("settings", settings)
		if err != nil {
			return 0, err
		}
		return C.pgaad_client_new(pointer(text), handle, message), nil
	})
}

// defaultWaiting is of all clients of NewDefault, which are one.
var defaultWaiting = make(chan struct{}, maxWaiting)

// NewDefault is the client that the process has one of, made from the environment at first use. Each call gives a value of
// its own, to be closed, of the same client. A first use that fails is not remembered.
func NewDefault() (*Client, error) {
	client, err := newClient(func(handle **C.pgaad_client, message **C.char) (C.pgaad_status, error) {
		return C.pgaad_client_default(handle, message), nil
	})
	if err == nil {
		client.waiting = defaultWaiting
	}
	return client, err
}

func newClient(construct func(**C.pgaad_client, **C.char) (C.pgaad_status, error)) (*Client, error) {
	if err := checkLibrary(); err != nil {
		return nil, err
	}
	var handle *C.pgaad_client
	var message *C.char
	status, err := construct(&handle, &message)
	if err == nil {
		err = failure(status, message)
	}
	if err != nil {
		return nil, err
	}
	client := &Client{waiting: make(chan struct{}, maxWaiting), handle: handle}
	runtime.SetFinalizer(client, (*Client).Close)
	return client, nil
}

// checkLibrary compares the library that was loaded with the header that this was built with. A newer one has all that
// the header names.
func checkLibrary() error {
	if C.pgaad_version_number() >= C.PGAAD_VERSION_NUMBER {
		return nil
	}
	return &Error{
		Status: ErrConfig,
		Message: fmt.Sprintf("pgaad: the library that was loaded is version %s, and this program was built for %s: "+
			"install libpgaad %[2]s or later, or build the program again", Version(), C.PGAAD_VERSION),
	}
}

// Version is the version of the library, such as "1.2.3".
func Version() string {
	return C.GoString(C.pgaad_version())
}

// Close gives the client back. Calls that run finish; what is called afterwards fails with an error that wraps os.ErrClosed.
// It never waits, and returns nil.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.free()
	return nil
}

// Format prints the type's name: a client that is in use is not to be looked into.
func (c *Client) Format(state fmt.State, _ rune) {
	fmt.Fprint(state, "pgaad.Client")
}

// begin keeps the handle until end.
func (c *Client) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.handle == nil {
		return &Error{Status: ErrInvalidArgument, Message: "pgaad: the client is closed", cause: os.ErrClosed}
	}
	c.running++
	return nil
}

func (c *Client) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
	c.free()
}

// free is called with the lock held: after it no call may start, and none has got the handle and not begun.
func (c *Client) free() {
	if c.closed && c.running == 0 && c.handle != nil {
		C.pgaad_client_free(c.handle)
		c.handle = nil
		runtime.SetFinalizer(c, nil)
	}
}

// now runs a call of the library that does not wait for a token.
func (c *Client) now(ask func() error) error {
	if err := c.begin(); err != nil {
		return err
	}
	defer c.end()
	return ask()
}

// wait runs a call of the library that may wait, until it has ended or the context has. A thread is in it all the time, also
// when nobody waits for the answer any more: so there are not many such calls at once, and the others wait in Go. What ask
// makes is to be looked at only if wait returns nil.
func (c *Client) wait(ctx context.Context, ask func() error) error {
	if err := ctx.Err(); err != nil {
		return interrupted(err)
	}
	if c.source != nil && ctx.Value(fetching{}) == c.source {
		return &Error{Status: ErrInvalidArgument, Message: "pgaad: a token function can't wait for its own client"}
	}
	if err := c.begin(); err != nil {
		return err
	}
	select {
	case c.waiting <- struct{}{}:
	case <-ctx.Done():
		c.end()
		return interrupted(ctx.Err())
	}
	done := make(chan error, 1)
	go func() {
		defer c.end()
		defer func() { <-c.waiting }()
		done <- ask()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return interrupted(ctx.Err())
	}
}

// Token gets a token for the database: from memory while it is fresh, else from Entra or wherever the identity has its
// tokens; of many callers one fetches. It waits for the setting timeout_ms at most, or until the context ends. Connections
// want [BeforeConnect], [Connector] or [Client.ConnString], which see to it that the token gets to the right server only.
func (c *Client) Token(ctx context.Context) (Token, error) {
	var token Token
	err := c.wait(ctx, func() error {
		var secret, message *C.char
		var expiresOn C.int64_t
		status := C.pgaad_client_get_token(c.handle, timeout(ctx), &secret, &expiresOn, &message)
		if err := failure(status, message); err != nil {
			return err
		}
		token = NewToken(taken(secret), time.Unix(int64(expiresOn), 0))
		return nil
	})
	if err != nil {
		return Token{}, err
	}
	return token, nil
}

// User is the user that the identity is to the database, as its token says: a user's principal name, or the name of a
// user-assigned identity. PGUSER and the like don't count here. ErrConfig: no token of this identity holds a name (those of
// applications and of system-assigned identities don't). Otherwise it waits and fails as Token.
func (c *Client) User(ctx context.Context) (string, error) {
	return c.text(ctx, func(user, message **C.char) C.pgaad_status {
		return C.pgaad_client_get_user(c.handle, user, message)
	})
}

// LibpqConnString writes a connection string for programs that are built on libpq, such as psql and pg_dump: the caller's
// options (key=value or URI; "" is the environment alone), and, where Entra is on for this server, a token as password and
// what keeps it safe. It holds a secret. pgx and lib/pq read another dialect: see [Client.ConnString].
//
// ErrConfig: conninfo or its connection service can't be read, or an option contradicts a token. ErrInsecure: the token may
// not go there. Otherwise it waits and fails as Token.
func (c *Client) LibpqConnString(ctx context.Context, conninfo string) (string, error) {
	text, err := terminated("conninfo", conninfo)
	if err != nil {
		return "", err
	}
	return c.text(ctx, func(connString, message **C.char) C.pgaad_status {
		return C.pgaad_client_connstring(c.handle, pointer(text), connString, message)
	})
}

// Invalidate drops the client's tokens, here and in a shared cache, so that the next call fetches one: for a token that a
// server refuses. The default client also reads its environment anew. ErrNetwork: the tokens are dropped here, but the
// shared cache could not be reached; that takes two seconds at most.
func (c *Client) Invalidate() error {
	return c.now(func() error {
		var message *C.char
		status := C.pgaad_client_invalidate(c.handle, &message)
		return failure(status, message)
	})
}

// Stats is what the client has, did and failed with, as a JSON object, for people and monitors: "credential", "user",
// "origin" and "expires_on" of the token, counts such as "hits" and "failures", "last_error" and more, which pgaad.h
// describes. Members may be added. Never a secret or a token.
func (c *Client) Stats() (json.RawMessage, error) {
	var stats json.RawMessage
	err := c.now(func() error {
		var text, message *C.char
		status := C.pgaad_client_stats(c.handle, &text, &message)
		if err := failure(status, message); err != nil {
			return err
		}
		stats = json.RawMessage(taken(text))
		return nil
	})
	return stats, err
}

// text runs a call that hands out a string.
func (c *Client) text(ctx context.Context, ask func(text, message **C.char) C.pgaad_status) (string, error) {
	var answer string
	err := c.wait(ctx, func() error {
		var text, message *C.char
		status := ask(&text, &message)
		if err := failure(status, message); err != nil {
			return err
		}
		answer = taken(text)
		return nil
	})
	if err != nil {
		return "", err
	}
	return answer, nil
}

// timeout is what a call may wait, in milliseconds; the setting's time where that is less.
func timeout(ctx context.Context) C.int {
	deadline, ok := ctx.Deadline()
	if !ok {
		return -1
	}
	ms := (time.Until(deadline) + grace).Milliseconds()
	switch {
	case ms < 1:
		return 1
	case ms > math.MaxInt32:
		return -1
	}
	return C.int(ms)
}

// terminated is the text as C reads it.
func terminated(what, text string) ([]byte, error) {
	if strings.IndexByte(text, 0) >= 0 {
		return nil, &Error{Status: ErrInvalidArgument, Message: "pgaad: " + what + " holds a NUL character"}
	}
	return append([]byte(text), 0), nil
}

func pointer(terminated []byte) *C.char {
	return (*C.char)(unsafe.Pointer(&terminated[0]))
}

// taken is a string that the library handed out, which it gets back.
func taken(text *C.char) string {
	defer C.pgaad_free(unsafe.Pointer(text))
	return C.GoString(text)
}
