module github.com/seed342dcb2d/coalesce/benchmarks

go 1.26.5

require (
	github.com/Yiling-J/theine-go v0.6.3
	github.com/creachadair/msync v0.10.1
	github.com/golang/groupcache v0.0.0-20241129210726-2c02b8208cf8
	github.com/maypok86/otter/v2 v2.4.0
	github.com/puzpuzpuz/xsync/v3 v3.5.1
	github.com/samber/go-singleflightx v0.3.2
	github.com/seed342dcb2d/coalesce v0.0.0-00010101000000-000000000000
	github.com/zeromicro/go-zero v1.10.3
	golang.org/x/sync v0.24.0
	resenje.org/singleflight v0.4.3
	tailscale.com v1.102.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/klauspost/cpuid/v2 v2.0.9 // indirect
	github.com/zeebo/xxh3 v1.0.2 // indirect
	golang.org/x/sys v0.47.0 // indirect
)

replace github.com/seed342dcb2d/coalesce => ../
