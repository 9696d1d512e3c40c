module github.com/seed342dcb2d/coalesce/fleet/redisfleet/goredis

go 1.26.0

require (
	github.com/redis/go-redis/v9 v9.23.0
	github.com/seed342dcb2d/coalesce/fleet v0.1.0
	github.com/seed342dcb2d/coalesce/fleet/redisfleet v0.1.0
)

require (
	github.com/anishathalye/porcupine v1.3.1 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/puzpuzpuz/xsync/v3 v3.5.1 // indirect
	github.com/redis/rueidis v1.0.79 // indirect
	github.com/seed342dcb2d/coalesce v0.1.0 // indirect
	go.uber.org/atomic v1.12.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
)

replace (
	github.com/seed342dcb2d/coalesce => ../../../
	github.com/seed342dcb2d/coalesce/fleet => ../../
	github.com/seed342dcb2d/coalesce/fleet/redisfleet => ../
)
