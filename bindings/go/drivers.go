package pgaad

import (
	"context"
	"database/sql/driver"
	"fmt"
	"reflect"
)

// BeforeConnect makes what pgx calls before each connection, of pgxpool or database/sql, version 4 or 5; parse is that
// version's pgx.ParseConfig:
//
//	config.BeforeConnect = pgaad.BeforeConnect(client, conninfo, pgx.ParseConfig)
//
// It writes a connection string ([Client.ConnString]), and takes Host, Port, Database, User, Password, TLSConfig and
// Fallbacks from it, which belong together. The rest of the config stays as it was made: so make it of the same conninfo. The
// context that pgx gives it ends the wait for a token; an error of ours is in the error that pgx returns.
func BeforeConnect[Config any](
	client *Client, conninfo string, parse func(string) (*Config, error),
) func(context.Context, *Config) error {
	return func(ctx context.Context, config *Config) error {
		options, err := client.options(ctx, conninfo)
		if err != nil {
			return err
		}
		// pgx's error would hold the password, so it does not get one to read.
		password := options.hide("password")
		fresh, err := parse(options.String())
		if err != nil {
			return err
		}
		return renew(reflect.ValueOf(config).Elem(), reflect.ValueOf(fresh).Elem(), password)
	}
}

// renew copies what says where to connect to, how and as whom. pgx is known by the names of its fields, so that this package
// needs no version of it.
func renew(config, fresh reflect.Value, password string) error {
	for _, name := range []string{"Host", "Port", "Database", "User", "Password", "TLSConfig", "Fallbacks"} {
		if config.Kind() != reflect.Struct || !config.FieldByName(name).IsValid() {
			return &Error{
				Status:  ErrInvalidArgument,
				Message: fmt.Sprintf("pgaad: %s is no config of pgx: it has no field %s", config.Type(), name),
			}
		}
		config.FieldByName(name).Set(fresh.FieldByName(name))
	}
	if password != "" {
		config.FieldByName("Password").SetString(password)
	}
	return nil
}

// Connector makes what sql.OpenDB wants of a driver that reads connection strings as lib/pq does:
//
//	db := sql.OpenDB(pgaad.Connector(client, conninfo, pq.NewConnector))
//
// It opens each connection by a connection string that it has just asked for ([Client.ConnString]). The context of the query
// that needs the connection ends the wait for a token. (pgx for database/sql: stdlib.OpenDB with
// stdlib.OptionBeforeConnect and [BeforeConnect].)
func Connector[C driver.Connector](client *Client, conninfo string, open func(string) (C, error)) driver.Connector {
	return connector(func(ctx context.Context) (driver.Connector, error) {
		connString, err := client.ConnString(ctx, conninfo)
		if err != nil {
			return nil, err
		}
		return open(connString)
	})
}

// A connector is a function, which prints as an address.
type connector func(context.Context) (driver.Connector, error)

// Connect opens a connection.
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	fresh, err := c(ctx)
	if err != nil {
		return nil, err
	}
	return fresh.Connect(ctx)
}

// Driver is of a kind of its own.
func (c connector) Driver() driver.Driver {
	return signIn(c)
}

// signIn opens connections for who has got the driver and not the connector.
type signIn connector

// Open opens a connection by what the connector was made of; the name is that already.
func (s signIn) Open(string) (driver.Conn, error) {
	return connector(s).Connect(context.Background())
}
