module pgaad/example

go 1.18

require (
	github.com/jackc/pgx/v4 v4.15.0
	github.com/lib/pq v1.10.7
	pgaad v0.0.0
)

replace pgaad => ../
