package pgaad_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"pgaad"
	"pgaad/internal/ground"
)

func TestAFunctionSuppliesTheToken(t *testing.T) {
	secret, calls := token(t), int32(0)
	client := newCallback(t, func(ctx context.Context, asked string) (pgaad.Token, error) {
		if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > ground.Patience || asked != scope {
			t.Errorf("asked for %s until %v", asked, deadline)
		}
		atomic.AddInt32(&calls, 1)
		return pgaad.NewToken(secret, time.Now().Add(10*time.Minute)), nil
	})
	for i := 0; i < 3; i++ {
		got := mustToken(t, client)
		if left := time.Until(got.ExpiresOn()); got.Secret() != secret || left < 9*time.Minute || left > 10*time.Minute {
			t.Errorf("another one, until %v", got.ExpiresOn())
		}
	}
	if calls := atomic.LoadInt32(&calls); calls != 1 {
		t.Errorf("%d calls", calls)
	}
}

func TestWhatAFunctionFailsWith(t *testing.T) {
	expired := func(ctx context.Context, _ string) (pgaad.Token, error) {
		<-ctx.Done()
		return pgaad.Token{}, fmt.Errorf("the vault: %w", ctx.Err())
	}
	fail := func(err error) pgaad.TokenFunc {
		return func(context.Context, string) (pgaad.Token, error) { return pgaad.Token{}, err }
	}
	for _, row := range []struct {
		name, settings string
		fetch          pgaad.TokenFunc
		status         pgaad.Status
		part           string
	}{
		{"any error", "", fail(io.ErrUnexpectedEOF), pgaad.ErrUnavailable, "unexpected EOF"},
		{"a status", "", fail(fmt.Errorf("the vault: %w", pgaad.ErrDenied)), pgaad.ErrDenied, "the vault"},
		{"an error of ours", "", fail(&pgaad.Error{Status: pgaad.ErrThrottled, Message: "later"}), pgaad.ErrThrottled, "later"},
		{"a deadline", "timeout_ms=200", expired, pgaad.ErrTimeout, ""},
		{"NUL in an error", "", fail(errors.New("a\x00b")), pgaad.ErrUnavailable, "a?b"},
		{"no token", "", answer(""), pgaad.ErrProtocol, ""},
		{"NUL in a token", "", answer("a\x00b"), pgaad.ErrProtocol, ""},
		{"a panic", "", func(context.Context, string) (pgaad.Token, error) { panic("oh") }, pgaad.ErrProtocol, "panicked: oh"},
		{"its end", "", func(context.Context, string) (pgaad.Token, error) {
			runtime.Goexit()
			return pgaad.Token{}, nil
		}, pgaad.ErrProtocol, "ended its goroutine"},
	} {
		t.Run(row.name, func(t *testing.T) {
			client, err := pgaad.NewCallback(row.settings, row.fetch)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			_, err = client.Token(within(t))
			assertFailure(t, err, row.status, row.part)
		})
	}
}

func TestAFunctionMayAskOtherClientsAndNotItsOwn(t *testing.T) {
	other := newClient(t, "")
	var client *pgaad.Client
	client = newCallback(t, func(ctx context.Context, _ string) (pgaad.Token, error) {
		if _, err := client.Token(ctx); !errors.Is(err, pgaad.ErrInvalidArgument) {
			t.Errorf("its own: %v", err)
		}
		return other.Token(ctx)
	})
	if mustToken(t, client).Secret() != mustToken(t, other).Secret() {
		t.Error("another token")
	}
}

func TestSettingsThatAreWrongForAFunction(t *testing.T) {
	for settings, status := range map[string]pgaad.Status{
		"auth=client_secret": pgaad.ErrConfig, "a\x00b": pgaad.ErrInvalidArgument, "callback_thread='": pgaad.ErrConfig,
	} {
		client, err := pgaad.NewCallback(settings, answer("x"))
		if client != nil || !errors.Is(err, status) {
			t.Errorf("%s: %v", settings, err)
		}
	}
	if client, err := pgaad.NewCallback("", nil); client != nil || !errors.Is(err, pgaad.ErrInvalidArgument) {
		t.Errorf("nil: %v", err)
	}
}

// collected waits for the end of all that a function holds.
func collected(t *testing.T, make func(held *[]byte)) {
	t.Helper()
	gone := int32(0)
	func() {
		held := new([]byte)
		runtime.SetFinalizer(held, func(*[]byte) { atomic.StoreInt32(&gone, 1) })
		make(held)
	}()
	ground.WaitUntil(t, "the function is gone", func() bool {
		runtime.GC()
		return atomic.LoadInt32(&gone) == 1
	})
}

func TestTheFunctionIsLetGo(t *testing.T) {
	secret := token(t)
	of := func(held *[]byte) *pgaad.Client {
		client, err := pgaad.NewCallback("", func(context.Context, string) (pgaad.Token, error) {
			*held = []byte(secret)
			return pgaad.NewToken(secret, time.Time{}), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		mustToken(t, client)
		return client
	}
	collected(t, func(held *[]byte) { of(held).Close() })
	collected(t, func(held *[]byte) { of(held) }) // by the finalizer
	collected(t, func(held *[]byte) {             // that of a client that was never made
		if _, err := pgaad.NewCallback("auth=off", func(context.Context, string) (pgaad.Token, error) {
			*held = nil
			return pgaad.Token{}, nil
		}); err == nil {
			t.Error("auth=off")
		}
	})
}
