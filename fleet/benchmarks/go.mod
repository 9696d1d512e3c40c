module github.com/seed342dcb2d/coalesce/fleet/benchmarks

go 1.26.0

require (
	github.com/nats-io/nats.go v1.55.0
	github.com/redis/rueidis v1.0.79
	github.com/redis/rueidis/rueidisaside v1.0.78
	github.com/seed342dcb2d/coalesce v0.1.0
	github.com/seed342dcb2d/coalesce/fleet v0.1.0
	github.com/seed342dcb2d/coalesce/fleet/natsfleet v0.1.0
	github.com/seed342dcb2d/coalesce/fleet/redisfleet v0.1.0
)

require (
	github.com/antithesishq/antithesis-sdk-go v0.8.0-default-no-op // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/google/go-tpm v0.9.8 // indirect
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/minio/highwayhash v1.0.4 // indirect
	github.com/nats-io/jwt/v2 v2.8.2 // indirect
	github.com/nats-io/nats-server/v2 v2.15.2 // indirect
	github.com/nats-io/nkeys v0.4.16 // indirect
	github.com/nats-io/nuid v1.0.1 // indirect
	github.com/puzpuzpuz/xsync/v3 v3.5.1 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/time v0.16.0 // indirect
)

replace (
	github.com/seed342dcb2d/coalesce => ../../
	github.com/seed342dcb2d/coalesce/fleet => ../
	github.com/seed342dcb2d/coalesce/fleet/natsfleet => ../natsfleet
	github.com/seed342dcb2d/coalesce/fleet/redisfleet => ../redisfleet
)
