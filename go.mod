module github.com/seed342dcb2d/coalesce

go 1.25

require (
	github.com/cespare/xxhash/v2 v2.3.0
	github.com/puzpuzpuz/xsync/v3 v3.5.1
)
