import sys

from psycopg_pool import ConnectionPool

import pgaad.psycopg

# Each connection that the pool opens carries a fresh token.
with ConnectionPool(" ".join(sys.argv[1:]), connection_class=pgaad.psycopg.Connection, max_lifetime=1800) as pool:
    with pool.connection() as connection:
        print("signed in as %s" % connection.execute("SELECT current_user").fetchone())
