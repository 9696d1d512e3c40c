module github.com/seed342dcb2d/coalesce/fleet

go 1.25

require (
	github.com/anishathalye/porcupine v1.3.1
	github.com/seed342dcb2d/coalesce v0.1.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/puzpuzpuz/xsync/v3 v3.5.1 // indirect
)

replace github.com/seed342dcb2d/coalesce => ../
