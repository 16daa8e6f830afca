// The example signs in with pgx, by a pool whose connections each get a token that is fresh then. The connection string is
// the argument; without one, PGHOST and its kin say where to.
//
// It is written for pgx version 4; with version 5, ConnectConfig is called NewWithConfig.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
	"pgaad"
)

func main() {
	log.SetFlags(0)
	if err := run(context.Background(), strings.Join(os.Args[1:], " ")); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, conninfo string) error {
	client, err := pgaad.New("")
	if err != nil {
		return err
	}
	defer client.Close()
	config, err := pgxpool.ParseConfig(conninfo)
	if err != nil {
		return err
	}
	config.BeforeConnect = pgaad.BeforeConnect(client, conninfo, pgx.ParseConfig)
	pool, err := pgxpool.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	var user string
	if err := pool.QueryRow(ctx, "select current_user").Scan(&user); err != nil {
		return err
	}
	fmt.Println("signed in as", user)
	return nil
}
