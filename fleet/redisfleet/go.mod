module github.com/seed342dcb2d/coalesce/fleet/redisfleet

go 1.25.0

require (
	github.com/redis/rueidis v1.0.79
	github.com/seed342dcb2d/coalesce/fleet v0.1.0
)

require (
	github.com/anishathalye/porcupine v1.3.1 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/puzpuzpuz/xsync/v3 v3.5.1 // indirect
	github.com/seed342dcb2d/coalesce v0.1.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
)

replace (
	github.com/seed342dcb2d/coalesce => ../../
	github.com/seed342dcb2d/coalesce/fleet => ../
)
