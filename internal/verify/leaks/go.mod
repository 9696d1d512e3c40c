module github.com/seed342dcb2d/coalesce/internal/verify/leaks

go 1.26

require (
	github.com/seed342dcb2d/coalesce v0.0.0-00010101000000-000000000000
	go.uber.org/goleak v1.3.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/puzpuzpuz/xsync/v3 v3.5.1 // indirect
)

replace github.com/seed342dcb2d/coalesce => ../../../
