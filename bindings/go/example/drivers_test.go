package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
	"github.com/jackc/pgx/v4/stdlib"
	"github.com/lib/pq"
	"pgaad"
	"pgaad/internal/ground"
)

// A row is what a query gives.
type row interface{ Scan(...any) error }

// A pool is one of some driver's: what it was asked for is done by a connection of its own as long as it is not given back.
type pool struct {
	query func(ctx context.Context, sql string) (row row, giveBack func(), err error)
	close func()
}

// ask is the answer to a query that gives one value, and what keeps the connection until the pool is closed.
func (p pool) ask(ctx context.Context, sql string) (string, error) {
	row, giveBack, err := p.query(ctx, sql)
	if err != nil {
		return "", err
	}
	defer giveBack()
	var value string
	return value, row.Scan(&value)
}

// drivers are all ways to a pool.
var drivers = map[string]func(*pgaad.Client, string) (pool, error){
	"pgxpool": func(client *pgaad.Client, conninfo string) (pool, error) {
		config, err := pgxpool.ParseConfig(conninfo)
		if err != nil {
			return pool{}, err
		}
		config.LazyConnect = true
		config.MaxConns = 4
		config.BeforeConnect = pgaad.BeforeConnect(client, conninfo, pgx.ParseConfig)
		made, err := pgxpool.ConnectConfig(context.Background(), config)
		if err != nil {
			return pool{}, err
		}
		return pool{func(ctx context.Context, sql string) (row, func(), error) {
			connection, err := made.Acquire(ctx)
			if err != nil {
				return nil, nil, err
			}
			return connection.QueryRow(ctx, sql), connection.Release, nil
		}, made.Close}, nil
	},
	"pgx for database/sql": func(client *pgaad.Client, conninfo string) (pool, error) {
		config, err := pgx.ParseConfig(conninfo)
		if err != nil {
			return pool{}, err
		}
		before := pgaad.BeforeConnect(client, conninfo, pgx.ParseConfig)
		return ofSQL(stdlib.OpenDB(*config, stdlib.OptionBeforeConnect(before))), nil
	},
	"lib/pq": func(client *pgaad.Client, conninfo string) (pool, error) {
		return ofSQL(sql.OpenDB(pgaad.Connector(client, conninfo, pq.NewConnector))), nil
	},
}

func ofSQL(db *sql.DB) pool {
	return pool{func(ctx context.Context, sql string) (row, func(), error) {
		connection, err := db.Conn(ctx)
		if err != nil {
			return nil, nil, err
		}
		return connection.QueryRowContext(ctx, sql), func() { connection.Close() }, nil
	}, func() { db.Close() }}
}

// each runs a test with each driver, in a pool of these settings and this connection string.
func each(t *testing.T, settings, conninfo string, test func(*testing.T, *pgaad.Client, pool)) {
	for name, open := range drivers {
		t.Run(name, func(t *testing.T) {
			client, err := pgaad.New(settings)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			pool, err := open(client, conninfo)
			if err != nil {
				t.Fatal(err)
			}
			defer pool.close()
			test(t, client, pool)
		})
	}
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), ground.Patience)
	t.Cleanup(cancel)
	return ctx
}

// assertFailure wants this status, and no secret.
func assertFailure(t *testing.T, err error, status pgaad.Status, part string) {
	t.Helper()
	var failure *pgaad.Error
	if !errors.Is(err, status) || !errors.As(err, &failure) || !strings.Contains(err.Error(), part) {
		t.Errorf("not %v, %s: %#v, %[3]v", status, part, err)
	}
	ground.NoSecret(t, fmt.Sprintf("%v %+v %#v", err, err, failure))
}

const who = "select current_user || ' ' || ssl::text from pg_stat_ssl where pid = pg_backend_pid()"

func TestConnectionsOutliveTheirTokenAndNewOnesGetANewOne(t *testing.T) {
	ground.Lifetime(t, 2)
	each(t, "", "", func(t *testing.T, client *pgaad.Client, pool pool) {
		before := len(ground.Binds(t))
		token, err := client.Token(within(t))
		if err != nil {
			t.Fatal(err)
		}
		row, giveBack, err := pool.query(within(t), who)
		if err != nil {
			t.Fatal(err)
		}
		defer giveBack()
		var first string
		if err := row.Scan(&first); err != nil || first != os.Getenv("PGUSER")+" true" {
			t.Fatalf("%s, %v", first, err)
		}
		ground.WaitUntil(t, "the token has expired", func() bool { return time.Now().After(token.ExpiresOn()) })
		for i := 0; i < 2; i++ {
			// The first is busy.
			if second, err := pool.ask(within(t), who); err != nil || second != first {
				t.Fatalf("%s, %v", second, err)
			}
		}
		binds := ground.Binds(t)[before:]
		if len(binds) != 2 || !binds[0].OK || !binds[1].OK || binds[0].UTI == binds[1].UTI {
			t.Errorf("%+v", binds)
		}
	})
}

func TestATokenThatIsRefusedIsDroppedByHand(t *testing.T) {
	each(t, "", "", func(t *testing.T, client *pgaad.Client, pool pool) {
		if _, err := client.Token(within(t)); err != nil {
			t.Fatal(err)
		}
		ground.Ask(t, "POST /revoke", "")
		var state interface{ SQLState() string }
		if _, err := pool.ask(within(t), who); !errors.As(err, &state) || state.SQLState()[:2] != "28" {
			t.Fatalf("not refused: %v", err)
		} else {
			ground.NoSecret(t, fmt.Sprintf("%v %+v", err, err))
		}
		if err := client.Invalidate(); err != nil {
			t.Fatal(err)
		}
		if _, err := pool.ask(within(t), who); err != nil {
			t.Error(err)
		}
	})
}

func TestContextsReachTheTokenService(t *testing.T) {
	open := ground.Gate(t)
	each(t, "timeout_ms=60000", "", func(t *testing.T, client *pgaad.Client, pool pool) {
		ctx, cancel := context.WithTimeout(within(t), 100*time.Millisecond)
		defer cancel()
		if _, err := pool.ask(ctx, who); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		ctx, cancel = context.WithCancel(within(t))
		failed := make(chan error, 1)
		go func() { _, err := pool.ask(ctx, who); failed <- err }()
		ground.Ask(t, "GET /gate/1", "")
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	open()
}

func TestATokenServiceThatIsDownAndUpAgain(t *testing.T) {
	each(t, "timeout_ms=1500", "", func(t *testing.T, _ *pgaad.Client, pool pool) {
		ground.Fault(t, `{"kind": "reset", "before_tls": true}`)
		_, err := pool.ask(within(t), who)
		assertFailure(t, err, pgaad.ErrNetwork, "pgaad: ")
		ground.Clear(t)
		ground.WaitUntil(t, "it is up again", func() bool {
			_, err = pool.ask(within(t), who)
			return err == nil
		})
	})
}

func TestAWrongSecret(t *testing.T) {
	each(t, "client_secret=wrong", "", func(t *testing.T, _ *pgaad.Client, pool pool) {
		_, err := pool.ask(within(t), who)
		assertFailure(t, err, pgaad.ErrDenied, "AADSTS7000215")
	})
}

func TestWhereNoTokenGoes(t *testing.T) {
	before := len(ground.Binds(t))
	for conninfo, status := range map[string]pgaad.Status{
		"host=stranger.example":                     pgaad.ErrInsecure,
		"host=localhost,stranger.example":           pgaad.ErrInsecure,
		"sslmode=disable":                           pgaad.ErrInsecure,
		"host=/nonexistent":                         pgaad.ErrInsecure, // a socket
		"host=db.example hostaddr=127.0.0.1":        pgaad.ErrConfig,
		"requirepeer=postgres":                      pgaad.ErrConfig,
		"sslrootcert=" + os.Getenv("PGAAD_CA_FILE"): 0, // TLS refuses that
	} {
		each(t, "auth=client_secret", conninfo, func(t *testing.T, _ *pgaad.Client, pool pool) {
			_, err := pool.ask(within(t), who)
			if status != 0 {
				assertFailure(t, err, status, "pgaad: ")
			} else if err == nil {
				t.Errorf("%s: signed in", conninfo)
			} else {
				ground.NoSecret(t, err.Error())
			}
		})
	}
	if binds := ground.Binds(t)[before:]; len(binds) != 0 {
		t.Errorf("%+v", binds)
	}
}

func TestWithAPasswordAtHandNothingChanges(t *testing.T) {
	before := len(ground.Binds(t))
	conninfo := "user=" + pgaad.Quote(os.Getenv("LAPTOP_ROLE")) + " password=" + pgaad.Quote(os.Getenv("LAPTOP_PASSWORD"))
	each(t, "", conninfo, func(t *testing.T, _ *pgaad.Client, pool pool) {
		if user, err := pool.ask(within(t), "select current_user"); err != nil || user != os.Getenv("LAPTOP_ROLE") {
			t.Errorf("%s, %v", user, err)
		}
	})
	if binds := ground.Binds(t)[before:]; len(binds) != 0 {
		t.Errorf("%+v", binds)
	}
}

func TestTheDriversOwnOptionsStay(t *testing.T) {
	each(t, "", "application_name='a b' search_path=elsewhere", func(t *testing.T, _ *pgaad.Client, pool pool) {
		for name, value := range map[string]string{"application_name": "a b", "search_path": "elsewhere"} {
			if got, err := pool.ask(within(t), "show "+name); err != nil || got != value {
				t.Errorf("%s: %s, %v", name, got, err)
			}
		}
	})
}

func TestWhatIsSetInThePoolStays(t *testing.T) {
	client, err := pgaad.New("")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	config, err := pgx.ParseConfig("")
	if err != nil {
		t.Fatal(err)
	}
	if !config.TLSConfig.InsecureSkipVerify || len(config.Fallbacks) != 1 {
		t.Error("pgx verifies by itself now")
	}
	notices := 0
	config.RuntimeParams["application_name"] = "set"
	config.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) { notices++ }
	if err := pgaad.BeforeConnect(client, "", pgx.ParseConfig)(within(t), config); err != nil {
		t.Fatal(err)
	}
	if tls := config.TLSConfig; tls.InsecureSkipVerify || tls.ServerName != "localhost" || len(config.Fallbacks) != 0 {
		t.Errorf("not verified, or not always: %+v, %+v", tls, config.Fallbacks)
	}
	connection, err := pgx.ConnectConfig(within(t), config)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close(context.Background())
	var name string
	err = connection.QueryRow(within(t), "show application_name").Scan(&name)
	if _, failed := connection.Exec(within(t), "do $$ begin raise notice 'x'; end $$"); failed != nil {
		err = failed
	}
	if err != nil || name != "set" || notices != 1 {
		t.Errorf("%s, %d, %v", name, notices, err)
	}
}

func TestWhatADriverCannotReadIsSaidWithoutTheToken(t *testing.T) {
	client, err := pgaad.New("")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for conninfo, driver := range map[string]string{"target_session_attrs=x": "pgxpool", "client_encoding=LATIN1": "lib/pq"} {
		var config pgx.ConnConfig
		err := pgaad.BeforeConnect(client, conninfo, pgx.ParseConfig)(within(t), &config)
		if driver == "lib/pq" {
			pool, _ := drivers[driver](client, conninfo)
			_, err = pool.ask(within(t), who)
			pool.close()
		}
		if err == nil {
			t.Errorf("%s reads %s", driver, conninfo)
		} else {
			ground.NoSecret(t, fmt.Sprintf("%v %+v %#v", err, err, err))
		}
	}
}
