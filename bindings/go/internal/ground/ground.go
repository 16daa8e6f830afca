// Package ground drives the emulator of pgaad's tests: a token service, and a PostgreSQL that takes its tokens. The
// environment says where both are.
package ground

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// Patience is how long a test waits for what must happen.
const Patience = 60 * time.Second

// Ask sends a request to the emulator's control endpoint, whose help says what there is: "PUT /config", `{"lifetime": 2}`.
func Ask(t testing.TB, request, body string) string {
	t.Helper()
	method, path, _ := strings.Cut(request, " ")
	asked, err := http.NewRequest(method, os.Getenv("EMULATOR_CONTROL")+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(asked)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v %v %s", request, err, answer.Status, text)
	}
	return string(text)
}

// Fault makes all requests go wrong in this way until the test ends, or Clear.
func Fault(t testing.TB, fault string) {
	t.Helper()
	Ask(t, "PUT /faults", fault)
	t.Cleanup(func() { Clear(t) })
}

// Clear ends all faults.
func Clear(t testing.TB) {
	t.Helper()
	Ask(t, "DELETE /faults", "")
}

// Gate holds all requests up until it is opened, or the test ends.
func Gate(t testing.TB) (open func()) {
	t.Helper()
	Ask(t, "POST /gate/close", "")
	Ask(t, "PUT /faults", `{"kind": "gate"}`)
	open = func() {
		Clear(t)
		Ask(t, "POST /gate/open", "")
	}
	t.Cleanup(open)
	return open
}

// Lifetime sets how many seconds new tokens live, until the test ends.
func Lifetime(t testing.TB, seconds int) {
	t.Helper()
	var config struct {
		Lifetime int `json:"lifetime"`
	}
	if err := json.Unmarshal([]byte(Ask(t, "GET /config", "")), &config); err != nil {
		t.Fatal(err)
	}
	set := func(seconds int) { Ask(t, "PUT /config", fmt.Sprintf(`{"lifetime": %d}`, seconds)) }
	set(seconds)
	t.Cleanup(func() { set(config.Lifetime) })
}

// A Bind is a login that the database asked about: the token's id, and whether it was let in.
type Bind struct {
	Role string `json:"role"`
	OK   bool   `json:"ok"`
	UTI  string `json:"uti"`
}

// Binds are all logins so far.
func Binds(t testing.TB) []Bind {
	t.Helper()
	var binds []Bind
	if err := json.Unmarshal([]byte(Ask(t, "GET /binds", "")), &binds); err != nil {
		t.Fatal(err)
	}
	return binds
}

// WaitUntil looks until done holds.
func WaitUntil(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Patience); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", Patience, what)
		}
	}
}

// NoSecret fails where a text holds the client secret or a token.
func NoSecret(t testing.TB, text string) {
	t.Helper()
	if strings.Contains(text, os.Getenv("PGAAD_CLIENT_SECRET")) || strings.Contains(text, "eyJ") {
		t.Errorf("a secret in %s", text)
	}
}
