package pgaad_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"pgaad"
	"pgaad/internal/ground"
)

const scope = "https://ossrdbms-aad.database.windows.net/.default"

// newClient is one of these settings, which ends with the test.
func newClient(t *testing.T, settings string) *pgaad.Client {
	t.Helper()
	client, err := pgaad.New(settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// within is a context for what must not hang.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), ground.Patience)
	t.Cleanup(cancel)
	return ctx
}

// token is one that a program could have of its own.
func token(t *testing.T) string {
	return ground.Ask(t, "GET /token/"+os.Getenv("PGAAD_CLIENT_ID"), "")
}

// answer is a token function's.
func answer(secret string) pgaad.TokenFunc {
	return func(context.Context, string) (pgaad.Token, error) {
		return pgaad.NewToken(secret, time.Time{}), nil
	}
}

func newCallback(t *testing.T, fetch pgaad.TokenFunc) *pgaad.Client {
	t.Helper()
	client, err := pgaad.NewCallback("timeout_ms=60000", fetch)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func mustToken(t *testing.T, client *pgaad.Client) pgaad.Token {
	t.Helper()
	token, err := client.Token(within(t))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// assertFailure wants this status, one clear line with this in it, and no secret.
func assertFailure(t *testing.T, err error, status pgaad.Status, part string) {
	t.Helper()
	var failure *pgaad.Error
	if !errors.Is(err, status) || !errors.As(err, &failure) || failure.Status != status {
		t.Fatalf("not %v: %#v", status, err)
	}
	text := err.Error()
	if !strings.HasPrefix(text, "pgaad: ") || strings.Contains(text, "\n") || !strings.Contains(text, part) {
		t.Errorf("no %q in: %s", part, text)
	}
	if other := pgaad.ErrInternal; errors.Is(err, other) {
		t.Errorf("%v is %v as well", err, other)
	}
	ground.NoSecret(t, fmt.Sprintf("%v %+v %#v %s", err, err, err, text))
}

func TestATokenIsKeptUntilItIsDropped(t *testing.T) {
	for name, make := range map[string]func() (*pgaad.Client, error){
		"New":        func() (*pgaad.Client, error) { return pgaad.New("") },
		"NewDefault": pgaad.NewDefault,
	} {
		client, err := make()
		if err != nil {
			t.Fatal(name, err)
		}
		defer client.Close()
		first := mustToken(t, client)
		if left := time.Until(first.ExpiresOn()); first.Secret() == "" || left < time.Minute || left > 24*time.Hour {
			t.Errorf("%s: a token until %v", name, first.ExpiresOn())
		}
		if mustToken(t, client).Secret() != first.Secret() {
			t.Errorf("%s: it was not kept", name)
		}
		if err := client.Invalidate(); err != nil {
			t.Error(name, err)
		}
		if mustToken(t, client).Secret() == first.Secret() {
			t.Errorf("%s: it was not dropped", name)
		}
	}
}

func TestAConnStringIsForTheDriversOrForLibpq(t *testing.T) {
	client := newClient(t, "")
	secret := mustToken(t, client).Secret()
	forDrivers, err := client.ConnString(within(t), "dbname='it''s'")
	if err == nil {
		t.Errorf("a quote that does not end was read: %s", forDrivers)
	}
	forDrivers, err = client.ConnString(within(t), "dbname="+pgaad.Quote(`it's \`))
	if err != nil {
		t.Fatal(err)
	}
	forLibpq, err := client.LibpqConnString(within(t), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		"host='localhost'", "user=", "sslmode='verify-full'", "sslrootcert='", "password='" + secret + "'",
	} {
		if !strings.Contains(forDrivers, part) || !strings.Contains(forLibpq, part) {
			t.Errorf("not in both: %s", part)
		}
	}
	if !strings.Contains(forDrivers, `dbname='it\'s \\'`) {
		t.Error(forDrivers)
	}
	for _, part := range []string{"gssencmode=", "hostaddr="} {
		if strings.Contains(forDrivers, part) || !strings.Contains(forLibpq, part) {
			t.Errorf("%s is for libpq", part)
		}
	}
}

func TestFailuresHaveTheirStatus(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	closed.Close()
	ask := func(client *pgaad.Client) error {
		_, err := client.Token(within(t))
		return err
	}
	user := func(client *pgaad.Client) error {
		_, err := client.User(within(t))
		return err
	}
	connString := func(conninfo string) func(*pgaad.Client) error {
		return func(client *pgaad.Client) error {
			text, err := client.ConnString(within(t), conninfo)
			if text != "" {
				t.Errorf("%s: an error and a connection string", conninfo)
			}
			return err
		}
	}
	for _, row := range []struct {
		settings, fault string
		ask             func(*pgaad.Client) error
		status          pgaad.Status
		part            string
	}{
		{"client_secret=a\x00b", "", ask, pgaad.ErrInvalidArgument, "settings holds a NUL character"},
		{"client_secret=\xff", "", ask, pgaad.ErrInvalidArgument, "UTF-8"},
		{"clientid=x", "", ask, pgaad.ErrConfig, "client_id"},
		{"auth=off", "", ask, pgaad.ErrDisabled, "auth=off"},
		{"auth=managed_identity timeout_ms=5000", "", ask, pgaad.ErrUnavailable, ""},
		{"client_secret=wrong", "", ask, pgaad.ErrDenied, "AADSTS7000215"},
		{"", `{"kind": "status", "status": 429, "code": 90055, "retry_after": 3000}`, ask, pgaad.ErrThrottled, ""},
		{"authority_host=https://" + nobody + " timeout_ms=500", "", ask, pgaad.ErrNetwork, nobody},
		{"timeout_ms=300", `{"kind": "hang"}`, ask, pgaad.ErrTimeout, ""},
		{"", `{"kind": "garbage_json"}`, ask, pgaad.ErrProtocol, ""},
		{"", "", user, pgaad.ErrConfig, "user"},
		{"", "", connString("a\x00b"), pgaad.ErrInvalidArgument, "conninfo holds a NUL character"},
		{"", "", connString("host"), pgaad.ErrConfig, ""},
		{"", "", connString("host=stranger.example"), pgaad.ErrInsecure, "server_hosts"},
		{"", "", connString("sslmode=disable"), pgaad.ErrInsecure, "sslmode"},
		{"", "", connString("requirepeer=postgres"), pgaad.ErrConfig, "requirepeer"},
	} {
		if row.fault != "" {
			ground.Ask(t, "PUT /faults", row.fault)
		}
		client, err := pgaad.New(row.settings)
		if err == nil {
			err = row.ask(client)
			client.Close()
		} else if client != nil {
			t.Error("an error and a client")
		}
		ground.Clear(t)
		t.Run(row.status.Error()+" "+row.settings, func(t *testing.T) {
			assertFailure(t, err, row.status, row.part)
		})
	}
}

func TestEachStatusHasItsOwnName(t *testing.T) {
	for status, name := range map[pgaad.Status]string{
		pgaad.ErrInvalidArgument: "PGAAD_INVALID_ARGUMENT", pgaad.ErrConfig: "PGAAD_CONFIG", pgaad.ErrDisabled: "PGAAD_DISABLED",
		pgaad.ErrUnavailable: "PGAAD_UNAVAILABLE", pgaad.ErrDenied: "PGAAD_DENIED", pgaad.ErrThrottled: "PGAAD_THROTTLED",
		pgaad.ErrNetwork: "PGAAD_NETWORK", pgaad.ErrTimeout: "PGAAD_TIMEOUT", pgaad.ErrProtocol: "PGAAD_PROTOCOL",
		pgaad.ErrInsecure: "PGAAD_INSECURE", pgaad.ErrLibpq: "PGAAD_LIBPQ", pgaad.ErrInternal: "PGAAD_INTERNAL",
	} {
		if status.Error() != name {
			t.Errorf("%d is %v, not %s", status, status, name)
		}
	}
}

func TestAContextThatEndsEndsTheCallAndNotTheFetch(t *testing.T) {
	open := ground.Gate(t)
	client := newClient(t, "timeout_ms=60000")
	for name, ask := range map[string]func(context.Context) error{
		"Token":           func(ctx context.Context) error { _, err := client.Token(ctx); return err },
		"User":            func(ctx context.Context) error { _, err := client.User(ctx); return err },
		"ConnString":      func(ctx context.Context) error { _, err := client.ConnString(ctx, ""); return err },
		"LibpqConnString": func(ctx context.Context) error { _, err := client.LibpqConnString(ctx, ""); return err },
	} {
		if name == "User" {
			continue // an application has none, and that is said at once
		}
		ctx, cancel := context.WithCancel(within(t))
		failed := make(chan error, 1)
		go func() { failed <- ask(ctx) }()
		ground.Ask(t, "GET /gate/1", "")
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) || errors.Is(err, pgaad.ErrTimeout) {
			t.Errorf("%s: %v", name, err)
		}
		if err := ask(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: not at once: %v", name, err)
		}
		ctx, cancel = context.WithTimeout(within(t), time.Millisecond)
		err := ask(ctx)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		assertFailure(t, err, pgaad.ErrTimeout, "context deadline exceeded")
	}
	open()
	mustToken(t, client)
	if requests := stats(t, client)["refreshes"]; requests != 1.0 {
		t.Errorf("%v requests for one token", requests)
	}
}

func stats(t *testing.T, client *pgaad.Client) map[string]any {
	t.Helper()
	text, err := client.Stats()
	if err != nil {
		t.Fatal(err)
	}
	ground.NoSecret(t, string(text))
	var stats map[string]any
	if err := json.Unmarshal(text, &stats); err != nil {
		t.Fatal(err)
	}
	return stats
}

func TestStats(t *testing.T) {
	client := newClient(t, "")
	mustToken(t, client)
	if found := stats(t, client); found["credential"] != "client_secret" || found["misses"] != 1.0 {
		t.Errorf("%v", found)
	}
}

// threads are those that the operating system has for this process.
func threads(t *testing.T) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(tasks)
}

func TestThousandsOfCallsThatAreGivenUpHoldFewThreads(t *testing.T) {
	open := ground.Gate(t)
	client := newClient(t, "timeout_ms=60000")
	before := threads(t)
	var given sync.WaitGroup
	for i := 0; i < 4000; i++ {
		given.Add(1)
		go func(i int) {
			defer given.Done()
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(50+i%100)*time.Millisecond)
			defer cancel()
			var err error
			if i%2 == 0 {
				_, err = client.Token(ctx)
			} else {
				_, err = client.ConnString(ctx, fmt.Sprintf("application_name=%d", i))
			}
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		}(i)
	}
	given.Wait()
	ground.Ask(t, "GET /gate/1", "")
	// Eight wait; the fetch has one, and Go some more for its own.
	if more := threads(t) - before; more > 8+16 {
		t.Errorf("%d more threads than before", more)
	}
	open()
	mustToken(t, client)
}

func TestGoroutinesShareAClient(t *testing.T) {
	client := newClient(t, "")
	var all sync.WaitGroup
	for i := 0; i < 20*runtime.GOMAXPROCS(0); i++ {
		all.Add(1)
		go func(i int) {
			defer all.Done()
			for turn := 0; turn < 20; turn++ {
				var err error
				switch (i + turn) % 5 {
				case 0, 1:
					_, err = client.Token(within(t))
				case 2:
					_, err = client.ConnString(within(t), "")
				case 3:
					_, err = client.Stats()
				case 4:
					if turn%10 == 0 {
						err = client.Invalidate()
					}
				}
				if err != nil {
					t.Error(err)
				}
			}
		}(i)
	}
	all.Wait()
}

func TestAClosedClientAnswersNothingMore(t *testing.T) {
	open := ground.Gate(t)
	client := newClient(t, "timeout_ms=60000")
	got := make(chan error, 1)
	go func() { _, err := client.Token(within(t)); got <- err }()
	ground.Ask(t, "GET /gate/1", "")
	for i := 0; i < 2; i++ {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, ask := range []func() error{
		func() error { _, err := client.Token(within(t)); return err },
		func() error { _, err := client.User(within(t)); return err },
		func() error { _, err := client.ConnString(within(t), ""); return err },
		func() error { _, err := client.Stats(); return err },
		client.Invalidate,
		func() error { _, err := new(pgaad.Client).Token(within(t)); return err },
	} {
		err := ask()
		assertFailure(t, err, pgaad.ErrInvalidArgument, "closed")
		if !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	}
	open()
	if err := <-got; err != nil {
		t.Errorf("a call that ran: %v", err)
	}
}

func TestTheDefaultClientOutlivesItsValues(t *testing.T) {
	one, err := pgaad.NewDefault()
	if err != nil {
		t.Fatal(err)
	}
	first := mustToken(t, one)
	one.Close()
	two, err := pgaad.NewDefault()
	if err != nil {
		t.Fatal(err)
	}
	defer two.Close()
	if mustToken(t, two).Secret() != first.Secret() {
		t.Error("it was another one")
	}
}

func TestNothingThatIsPrintedHoldsASecret(t *testing.T) {
	client := newClient(t, "client_secret="+pgaad.Quote(os.Getenv("PGAAD_CLIENT_SECRET")))
	token := mustToken(t, client)
	type holder struct {
		token   pgaad.Token
		pointer *pgaad.Token
		Open    pgaad.Token
	}
	connector := pgaad.Connector(client, "password="+token.Secret(), newFake)
	for _, value := range []any{token, &token, holder{token, &token, token}, []pgaad.Token{token}, client, *connectorOf(connector)} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			ground.NoSecret(t, fmt.Sprintf(verb, value))
			if text := fmt.Sprintf(verb, value); strings.Contains(text, fmt.Sprintf("%x", token.Secret()[:16])) {
				t.Errorf("%s of %T: %s", verb, value, text)
			}
		}
	}
	text, err := json.Marshal(holder{token, &token, token})
	if err != nil {
		t.Fatal(err)
	}
	ground.NoSecret(t, string(text))
	if text := fmt.Sprint(token); !strings.HasPrefix(text, "pgaad.Token(until 20") {
		t.Error(text)
	}
}

func TestTheVersionIsTheHeaders(t *testing.T) {
	if version := pgaad.Version(); strings.Count(version, ".") != 2 {
		t.Error(version)
	}
}
