package pgaad_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"testing"

	"pgaad"
)

// fake is a driver that opens nothing; the tests with real ones are those of the example.
type fake struct{ connString string }

var errFake = errors.New("no server")

func newFake(connString string) (*fake, error) {
	if connString == "" {
		return nil, errFake
	}
	return &fake{connString}, nil
}

func (f *fake) Connect(context.Context) (driver.Conn, error) { return nil, errFake }
func (f *fake) Driver() driver.Driver                        { return nil }

func connectorOf(connector driver.Connector) *driver.Connector { return &connector }

func TestAConnectorAsksForEachConnection(t *testing.T) {
	client := newClient(t, "")
	asked := 0
	db := sql.OpenDB(pgaad.Connector(client, "", func(connString string) (*fake, error) {
		asked++
		return newFake(connString)
	}))
	defer db.Close()
	for i := 0; i < 2; i++ {
		if err := db.PingContext(within(t)); !errors.Is(err, errFake) {
			t.Error(err)
		}
	}
	if _, err := db.Driver().Open(""); !errors.Is(err, errFake) || asked != 3 {
		t.Errorf("%v after %d", err, asked)
	}
	refused := sql.OpenDB(pgaad.Connector(client, "host=stranger.example", newFake))
	defer refused.Close()
	assertFailure(t, refused.PingContext(within(t)), pgaad.ErrInsecure, "stranger.example")
}

func TestBeforeConnectIsForConfigsOfPgx(t *testing.T) {
	client := newClient(t, "")
	parse := func(string) (*fake, error) { return &fake{}, nil }
	before := pgaad.BeforeConnect(client, "", parse)
	assertFailure(t, before(within(t), &fake{}), pgaad.ErrInvalidArgument, "no field Host")
	fails := pgaad.BeforeConnect(client, "", func(string) (*fake, error) { return nil, errFake })
	if err := fails(within(t), &fake{}); err != errFake {
		t.Error(err)
	}
	number := pgaad.BeforeConnect(client, "", func(string) (*int, error) { return new(int), nil })
	assertFailure(t, number(within(t), new(int)), pgaad.ErrInvalidArgument, "no field Host")
}
